"""What job code may import to learn where it runs. Standard library only, quick to import."""

from xmanager.track.addresses import addresses
from xmanager.track.checkpoints import attempt, checkpoint_dir
from xmanager.track.place import Place, current

__all__ = ['Place', 'addresses', 'attempt', 'checkpoint_dir', 'current']
