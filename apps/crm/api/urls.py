"""The routes of clients, deals, calculations, policies and catalogs: the same on both faces."""

from apps.core.api.views import route
from apps.crm.api.calculations import CalculationViewSet
from apps.crm.api.catalogs import InsuranceTypeViewSet, InsurerViewSet, SalesChannelViewSet
from apps.crm.api.clients import ClientViewSet
from apps.crm.api.deals import DealViewSet
from apps.crm.api.members import JournalViewSet, MemberViewSet
from apps.crm.api.policies import PolicyViewSet

_catalogs = [
    ("insurers", InsurerViewSet),
    ("insurance-types", InsuranceTypeViewSet),
    ("sales-channels", SalesChannelViewSet),
]

patterns = [
    *route("deals", DealViewSet, get="list", post="create"),
    *route("deals/<id:id>", DealViewSet, get="retrieve", patch="partial_update", delete="destroy"),
    *route("deals/stage-metrics", DealViewSet, get="stage_metrics"),
    *route("deals/<id:id>/stage", DealViewSet, patch="change_stage"),
    *route("deals/<id:id>/reopen", DealViewSet, post="reopen"),
    *route("deals/<id:id>/restore", DealViewSet, post="restore"),
    *route("deals/<id:id>/history", DealViewSet, get="history"),
    *route("clients", ClientViewSet, get="list", post="create"),
    *route("clients/<id:id>", ClientViewSet, get="retrieve", patch="partial_update", delete="destroy"),
    *route("clients/<id:id>/restore", ClientViewSet, post="restore"),
    *route("clients/<id:id>/history", ClientViewSet, get="history"),
    *route("deals/<id:deal_id>/members", MemberViewSet, get="list", post="create"),
    *route("deals/<id:deal_id>/members/<id:user_id>", MemberViewSet, patch="partial_update", delete="destroy"),
    *route("deals/<id:deal_id>/journal", JournalViewSet, get="list", post="create"),
    *route("deals/<id:deal_id>/calculations", CalculationViewSet, get="list", post="create"),
    *route(
        "deals/<id:deal_id>/calculations/<id:id>",
        CalculationViewSet,
        get="retrieve",
        patch="partial_update",
        delete="destroy",
    ),
    *route("deals/<id:deal_id>/calculations/<id:id>/status", CalculationViewSet, post="change_status"),
    *route("policies", PolicyViewSet, get="list", post="create"),
    *route("policies/<id:id>", PolicyViewSet, get="retrieve", patch="partial_update", delete="destroy"),
    *route("policies/<id:id>/restore", PolicyViewSet, post="restore"),
    *(
        each
        for name, view in _catalogs
        for each in (
            *route(name, view, get="list", post="create"),
            *route(f"{name}/<id:id>", view, get="retrieve", patch="partial_update"),
        )
    ),
]
