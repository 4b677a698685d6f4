"""The contrastive loss: sampled softmax over the sources of negatives."""
