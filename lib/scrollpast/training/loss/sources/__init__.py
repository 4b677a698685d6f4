"""Sources of negatives: candidates, masks, and corrections of the sampling distribution."""
