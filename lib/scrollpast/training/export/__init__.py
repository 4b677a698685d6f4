"""Export of trained towers for serving."""
