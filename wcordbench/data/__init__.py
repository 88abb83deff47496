"""Datasets as whole tensors: loading, caching, batches and augmentation."""
