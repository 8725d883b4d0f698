"""Notices: what stations tell once and expect no decision about; stored, told to people where it matters."""

from gridtide.run.csms.data_transfer import DataTransfers
from gridtide.run.csms.desk import Act, Block, Desk
from gridtide.run.csms.dynamic import DynamicSchedules
from gridtide.run.csms.effects import Effects
from gridtide.run.csms.firmware import Firmware
from gridtide.run.csms.offers import Offers
from gridtide.run.csms.security_events import SecurityEvents


class Notices:
    """Answers the notices of all blocks."""

    def __init__(self, desk: Desk) -> None:
        self.effects = Effects(desk)
        self.offers = Offers(desk, self.effects)
        self.data_transfers = DataTransfers(desk, self.effects)
        blocks: tuple[Block, ...] = (
            *(self.offers, self.data_transfers, SecurityEvents(desk, self.effects)),
            *(Firmware(desk, self.effects), DynamicSchedules(desk)),
        )
        self.actions: dict[str, Act] = {name: act for block in blocks for name, act in block.actions.items()}
