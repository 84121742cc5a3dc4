"""Kubeflow pipeline components: thin steps around the libraries."""
