"""What a queued request keeps in order to be sent later, by whichever process."""

from pydantic import BaseModel, ConfigDict

from wan_mcp.ledger.record import Record
from wan_mcp.models import Replacement


class Order(BaseModel):
    """A request as its caller made it.

    Attributes:
        wanted: the request with its whole links, whose queries may be signatures; without a seed
            if the caller gave none.
        agreed: credits that it may cost; None if nobody was to be asked.
    """

    model_config = ConfigDict(frozen=True)

    wanted: Replacement
    agreed: float | None = None

    def __str__(self) -> str:
        """The order as it is stored."""
        return self.model_dump_json(exclude_none=True)


def order_of(record: Record) -> Order | None:
    """The order of a queued request; None if it was removed, or another program changed it."""
    if record.queued_request is None or record.is_forgotten:
        return None
    try:
        return Order.model_validate_json(record.queued_request)
    except ValueError:
        return None
