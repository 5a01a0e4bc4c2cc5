"""The account of one host: who holds which of its resources, who waits for which, and who may start next."""

from xmanager.ledger.ledger import Ledger, Reader
from xmanager.ledger.schedule import Start, schedule
from xmanager.ledger.space import Demand, Space
from xmanager.ledger.values import Entry, Hold, Want

__all__ = ['Demand', 'Entry', 'Hold', 'Ledger', 'Reader', 'Space', 'Start', 'Want', 'schedule']
