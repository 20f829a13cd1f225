"""What the person at this machine may ask a running node to do.

Shell: answers the local API; whatever is wrong is raised as a typed error.
"""

import time
from collections.abc import Mapping

from swarm.errors import UsageError
from swarm.node.auditing import Auditor
from swarm.node.context import Context
from swarm.node.steering import Steering
from swarm.ticket import Ticket, format_ticket
from swarm.web.app import Action

TICKET_DAYS = 30


def actions_of(context: Context) -> dict[str, Action]:
    """The actions by name."""
    auditor = Auditor(context)

    async def invite(_: Mapping[str, object]) -> Mapping[str, object]:
        """The action behind ``swarm ticket new``."""
        if context.run is None:
            raise UsageError("this node has no run to invite to yet", hint="swarm status")
        return {"ticket": make_ticket(context)}

    checking = {"audit": auditor.audit, "report": auditor.report}
    return {"ticket": invite, **checking, **Steering(context).actions()}


def make_ticket(context: Context) -> str:
    """An invitation to this node's network and run, good for ``TICKET_DAYS``."""
    addresses = tuple(context.host.addresses()[:2])
    if not addresses:
        raise UsageError("this node has no address to put into a ticket", hint="set listen")
    return format_ticket(
        Ticket(
            genesis16=context.genesis.chain[:16],
            run16=context.run16,
            peer=context.me,
            addresses=addresses,
            expires=int(time.time()) + TICKET_DAYS * 86_400,
        )
    )
