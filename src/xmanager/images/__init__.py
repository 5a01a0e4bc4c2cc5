"""Container images without an engine: layers, manifests, layouts on disk, registries."""
