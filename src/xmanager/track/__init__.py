"""What job code may import to learn where it runs. Standard library only, quick to import."""

from xmanager.track.place import Place, current

__all__ = ['Place', 'current']
