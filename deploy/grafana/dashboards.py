"""What the dashboards show; `make dashboards` writes them to dashboards/*.json.

python deploy/grafana/dashboards.py [FOLDER]
"""

import sys
from pathlib import Path

from panels import Panel, built

FOLDER = Path(__file__).parent / "dashboards"

ANSWERS = 'result=~"status_.|gone"'
FAILURES = 'result!~"status_.|gone|throttled|stale"'
ON_OFF = {0: "no", 1: "yes"}


def per_second(series: str, by: str = "") -> str:
    """The sum of the rates of a counter."""
    return f"sum{f' by ({by})' if by else ''} (rate({series}[$__rate_interval]))"


def quantiles(histogram: str, *shares: int) -> dict[str, str]:
    """Legend to expression, for percentiles."""
    buckets = per_second(f"{histogram}_bucket{{}}", "le")
    return {f"p{share}": f"histogram_quantile({share / 100}, {buckets})" for share in shares}


OVERVIEW = (
    Panel(
        "Alerts firing",
        "Alerts of precall that fire now, whichever job is chosen. Each has a section in deploy/runbook.md.",
        "short",
        {"alerts": 'count(ALERTS{alertstate="firing",alertname=~"Precall.+"}) or vector(0)'},
        kind="stat",
        span=4,
        steps=((1, "red"),),
    ),
    Panel(
        "Checks answered",
        "Share of the provider calls that said something of the binding. What is left is throttling and failures.",
        "percentunit",
        {
            "answered": f"{per_second(f'precall_checks_total{{,{ANSWERS}}}')} / {per_second('precall_checks_total{}')}"
        },
        kind="stat",
        span=4,
        steps=((0, "red"), (0.8, "orange"), (0.98, "green")),
    ),
    Panel(
        "Wrong at dial, estimated",
        "Share of the dials whose route the planner takes to be wrong at that moment, over the latest thousand or so.",
        "percentunit",
        {"wrong": 'max(precall_wrong_at_dial_estimate{,pool=""})'},
        kind="stat",
        span=4,
        steps=((0.01, "orange"), (0.05, "red")),
    ),
    Panel(
        "Age at dial, p95",
        "Nineteen of twenty reads were given a route checked more recently than this.",
        "s",
        {"p95": quantiles("precall_dial_age_seconds", 95)["p95"]},
        kind="stat",
        span=4,
        steps=((300, "orange"), (600, "red")),
    ),
    Panel(
        "Oldest route, of its limit",
        "Age of the oldest check of an active binding, in multiples of what the freshness promise allows. Above 2 an "
        "alert fires.",
        "short",
        {"oldest": "max(precall_oldest_route_age_seconds{} / precall_route_age_limit_seconds{})"},
        kind="stat",
        span=4,
        steps=((1, "orange"), (2, "red")),
    ),
    Panel(
        "Database takes writes",
        "While it does not, reads go on, registrations get 503 and real numbers are held back.",
        "short",
        {"saving": "max(precall_store_up{})"},
        kind="stat",
        span=4,
        steps=((0, "red"), (1, "green")),
        words=ON_OFF,
    ),
    Panel(
        "Routes by state",
        "Every binding, by the state its route is decided from. Temporary and fallback routes are those in trouble.",
        "short",
        {"{{state}}": 'sum by (state) (precall_routes{,state!="expired"})'},
        kind="stack",
    ),
    Panel(
        "Age of the route at dial",
        "How long ago the route had been checked at the moment a dispatcher read it.",
        "s",
        quantiles("precall_dial_age_seconds", 50, 95, 99),
    ),
    Panel(
        "Wrong at dial",
        "Share of dials whose route was wrong: as the planner estimates it, and as the ends of reported calls tell.",
        "percentunit",
        {
            "estimated": 'max(precall_wrong_at_dial_estimate{,pool=""})',
            "measured": 'max(precall_wrong_at_dial_measured{,pool=""})',
        },
    ),
    Panel(
        "Reads",
        "Route reads answered. Stale: the route was older than its max_age, and said so.",
        "reqps",
        {
            "fresh": per_second('precall_reads_total{,stale="false"}'),
            "stale": per_second('precall_reads_total{,stale="true"}'),
        },
        kind="stack",
    ),
    Panel(
        "Checks and their budget",
        "Provider calls by how they ended, and the rate precall allows itself: throttling halves it, then it grows.",
        "reqps",
        {
            "answered": per_second(f"precall_checks_total{{,{ANSWERS}}}"),
            "throttled": per_second("precall_provider_throttled_total{}"),
            "failed": per_second(f"precall_checks_total{{,{FAILURES}}}"),
            "limit": "sum(precall_provider_rate_limit{} * precall_leading{})",
        },
    ),
    Panel(
        "Oldest route",
        "Age of the oldest check of an active binding, and what the freshness promise allows. Far above it, the budget "
        "is too small or checks are not made.",
        "s",
        {
            "oldest": "max(precall_oldest_route_age_seconds{})",
            "limit": "max(precall_route_age_limit_seconds{})",
        },
    ),
    Panel(
        "Dials given too old a route",
        "Share of the reads for a dial that got a route older than promised. With the promise dial, an alert fires "
        "above 5 %.",
        "percentunit",
        {
            "stale": per_second('precall_dials_total{,stale="true"}')
            + f" / ({per_second('precall_dials_total{}')} > 0)"
        },
    ),
    Panel(
        "Pools in trouble",
        "Share of a pool's verified routes that are not normal: temporary numbers, or the real one.",
        "percentunit",
        {
            "{{pool}}": 'sum by (pool) (precall_pool_routes{pool,state!="normal"}) '
            "/ (sum by (pool) (precall_pool_routes{pool}) > 0)"
        },
    ),
    Panel(
        "Alerts",
        "When which alert fired.",
        "short",
        {"{{alertname}}": 'max by (alertname) (ALERTS{alertstate="firing",alertname=~"Precall.+"})'},
        kind="states",
        steps=((1, "red"),),
        words={1: "firing"},
    ),
)

PROVIDER = (
    Panel(
        "Time of a call",
        "The provider call alone: from sending to the reply, without the time it waited in precall.",
        "s",
        quantiles("precall_check_duration_seconds", 50, 95, 99),
        span=12,
    ),
    Panel(
        "Time in our own queue",
        "How long a check waited in precall before it was sent.",
        "s",
        quantiles("precall_check_queue_seconds", 50, 95, 99),
        span=12,
    ),
    Panel(
        "Checks by result",
        "How calls ended: answers (status_1 to status_4, gone), and non-answers, which never change a route.",
        "reqps",
        {"{{result}}": f"{per_second('precall_checks_total{}', 'result')} > 0"},
        kind="stack",
        span=12,
    ),
    Panel(
        "Budget",
        "Calls a second precall allows itself, calls it makes, and calls the provider refused for their rate.",
        "reqps",
        {
            "made": per_second("precall_checks_total{}"),
            "throttled": per_second("precall_provider_throttled_total{}"),
            "limit": "sum(precall_provider_rate_limit{} * precall_leading{})",
        },
        span=12,
    ),
    Panel(
        "Out of reach, or refusing us",
        "Degraded: at least half of the calls fail in transport. Refusing: the account, a key or the action.",
        "short",
        {
            "degraded": "max(precall_degraded{})",
            "refuses us": "max(precall_provider_circuit_open{})",
            "budget short": "max(precall_budget_short{})",
        },
        kind="states",
        steps=((1, "red"),),
        words=ON_OFF,
    ),
    Panel(
        "Since the last answer",
        "Time since the provider last answered a check.",
        "s",
        {"since": "time() - max(precall_last_success_timestamp_seconds{} > 0)"},
    ),
    Panel(
        "Replies not understood",
        "By what was wrong with them. An unknown status says that the provider's interface changed.",
        "reqps",
        {"{{code}}": per_second("precall_malformed_replies_total{}", "code")},
    ),
    Panel(
        "Checks somebody waited for",
        "Live checks for readers and operators, by how they ended: spent means that the budget had none left.",
        "reqps",
        {"{{result}}": per_second("precall_on_demand_checks_total{}", "result")},
        span=6,
    ),
    Panel(
        "Route changes",
        "Published changes of a route, by the state it left and the one it entered.",
        "cps",
        {"{{from}} → {{to}}": f"{per_second('precall_route_changes_total{}', 'from, to')} > 0"},
        span=12,
    ),
    Panel(
        "Temporary numbers changed",
        "Bindings that were given another temporary number. Many: the platform rotates them; keep max_age short.",
        "cps",
        {"changed": per_second("precall_temporary_number_changes_total{}")},
        span=6,
    ),
    Panel(
        "Call details",
        "QueryCallDetailByCallId calls by how they ended. It has a budget of its own.",
        "reqps",
        {"{{result}}": f"{per_second('precall_call_details_total{}', 'result')} > 0"},
        span=12,
    ),
    Panel(
        "Bindings that calls put in doubt",
        "Suspect: their calls fail. Disagreeing: the provider goes on to answer that such a binding is normal.",
        "short",
        {"suspect": "max(precall_calls_suspect{})", "disagreeing": "max(precall_calls_api_disagrees{})"},
        span=12,
    ),
)

PRIVACY = (
    Panel(
        "Real numbers handed out, last hour",
        "Reads that were given a real number. Each has an audit row that says who, when and why.",
        "short",
        {"exposures": "sum(increase(precall_exposures_total{pool}[1h]))"},
        kind="stat",
        span=6,
        steps=((1, "orange"),),
    ),
    Panel(
        "Brakes engaged",
        "Pools whose further exposures are refused, by their cap or by an operator.",
        "short",
        {"engaged": "sum(precall_exposure_brake{pool}) or vector(0)"},
        kind="stat",
        span=6,
        steps=((1, "red"),),
    ),
    Panel(
        "Bindings on the real number",
        "Active bindings in state fallback now.",
        "short",
        {"fallback": 'sum(precall_pool_routes{pool,state="fallback"})'},
        kind="stat",
        span=6,
        steps=((1, "orange"),),
    ),
    Panel(
        "Highest share of a pool",
        "Of the verified routes of one pool, how many are in state fallback.",
        "percentunit",
        {
            "share": 'max(sum by (pool) (precall_pool_routes{pool,state="fallback"}) '
            "/ (sum by (pool) (precall_pool_routes{pool}) > 0))"
        },
        kind="stat",
        span=6,
        steps=((0.02, "orange"), (0.05, "red")),
    ),
    Panel(
        "Real numbers handed out",
        "Reads a second that were given a real number, by pool.",
        "cps",
        {"{{pool}}": per_second("precall_exposures_total{pool}", "pool")},
        span=12,
    ),
    Panel(
        "Exposure brake",
        "When the further exposures of a pool were refused.",
        "short",
        {"{{pool}}": "max by (pool) (precall_exposure_brake{pool})"},
        kind="states",
        span=12,
        steps=((1, "red"),),
        words={0: "released", 1: "engaged"},
    ),
    Panel(
        "Fallback by pool",
        "Active bindings whose answer is Status 3: no X and no temporary number.",
        "short",
        {"{{pool}}": 'sum by (pool) (precall_pool_routes{pool,state="fallback"})'},
        span=12,
    ),
    Panel(
        "Temporary by pool",
        "Active bindings that are dialled through a temporary number. They run out before the real number is needed.",
        "short",
        {"{{pool}}": 'sum by (pool) (precall_pool_routes{pool,state="temporary"})'},
        span=12,
    ),
    Panel(
        "Only observed, would differ",
        "Reads a second in pools of policy.observe that precall would have answered with something else than X.",
        "reqps",
        {
            "{{pool}} {{would}}": per_second(
                'precall_observed_reads_total{pool,would!="dial_x"}', "pool, would"
            )
        },
        span=24,
    ),
)

DAEMON = (
    Panel(
        "Up",
        "Daemons that answer a scrape.",
        "short",
        {"up": 'sum(up{job=~"$job",instance=~"$instance"})'},
        kind="stat",
        span=4,
        steps=((0, "red"), (1, "green")),
    ),
    Panel(
        "Leads",
        "Daemons that check and write. Exactly one should, of all on one database; the others stand by.",
        "short",
        {"leads": "sum(precall_leading{})"},
        kind="stat",
        span=4,
        steps=((0, "red"), (1, "green"), (2, "red")),
    ),
    Panel(
        "Newest reload",
        "Whether the newest load of the configuration succeeded. After a failed one the old configuration goes on.",
        "short",
        {"reload": "min(precall_config_last_reload_successful{} * precall_leading{})"},
        kind="stat",
        span=4,
        steps=((0, "red"), (1, "green")),
        words={0: "failed", 1: "good"},
    ),
    Panel(
        "Pools paused",
        "Pools that are not checked by order of an operator; 1 when all are.",
        "short",
        {"paused": "sum(precall_paused{})"},
        kind="stat",
        span=4,
        steps=((1, "orange"),),
    ),
    Panel(
        "Bindings",
        "All that the daemon holds, expired ones within the retention included.",
        "short",
        {"bindings": "max(sum by (instance) (precall_routes{}))"},
        kind="stat",
        span=4,
    ),
    Panel(
        "Version",
        "What runs. Several: an upgrade is under way.",
        "short",
        {"{{version}}": "count by (version) (precall_build_info{})"},
        kind="stat",
        span=4,
    ),
    Panel(
        "Loop lag",
        "How late the newest tick of the check loop came. Reads share that loop.",
        "s",
        {"{{instance}}": "precall_scheduler_lag_seconds{}"},
    ),
    Panel(
        "Processor",
        "Cores used. One is all a precall can use of a machine.",
        "short",
        {"{{instance}}": "rate(process_cpu_seconds_total{}[$__rate_interval])"},
    ),
    Panel(
        "Memory",
        "Resident memory: some 100 MB and 1.1 kB for each binding.",
        "decbytes",
        {"{{instance}}": "process_resident_memory_bytes{}"},
    ),
    Panel(
        "Rows that wait for the database",
        "Changes and checks not yet committed: about a second's worth, and more while the database is away.",
        "short",
        {
            "{{instance}}": "precall_store_pending_rows{}",
            "dropped, {{instance}}": "increase(precall_store_dropped_checks_total{}[$__rate_interval])",
        },
    ),
    Panel(
        "Time of a transaction",
        "Commits of the routing table and its history.",
        "s",
        quantiles("precall_store_write_seconds", 50, 95, 99),
    ),
    Panel(
        "Database takes writes",
        "When the database took what the leading daemon writes.",
        "short",
        {"{{instance}}": "precall_store_up{}"},
        kind="states",
        steps=((0, "red"), (1, "green")),
        words=ON_OFF,
    ),
    Panel(
        "Reads by format",
        "Route reads answered, by the form of the answer.",
        "reqps",
        {"{{format}}": per_second("precall_reads_total{}", "format")},
    ),
    Panel(
        "Readers of the change stream",
        "Open streams of route changes.",
        "short",
        {"{{instance}}": "precall_stream_readers{}"},
    ),
    Panel(
        "Open files, of the limit",
        "Sockets of readers and provider calls included. At 100 % new readers are refused: raise LimitNOFILE.",
        "percentunit",
        {"{{instance}}": "process_open_fds{} / process_max_fds{}"},
    ),
    Panel(
        "Source: rows of the newest sync",
        "Rows of [source] by what became of them; refused ones are named by GET /v1/source.",
        "short",
        {"{{result}}": "sum by (result) (precall_source_rows{})"},
        span=12,
    ),
    Panel(
        "Source: since the last sync",
        "Time since [source] was last read to its end, where one is configured.",
        "s",
        {"since": "time() - max(precall_source_last_sync_timestamp_seconds{} > 0)"},
        span=12,
    ),
)

DASHBOARDS = {
    "overview": ("precall / Overview", "Are dispatchers told the truth?", OVERVIEW),
    "provider": ("precall / Provider", "How the provider answers, and what precall may ask.", PROVIDER),
    "privacy": ("precall / Privacy", "Which real numbers leave, and why.", PRIVACY),
    "daemon": ("precall / Daemon", "The process itself, its database and its readers.", DAEMON),
}


def main(folder: Path) -> None:
    """Write every dashboard into `folder`."""
    for name, (title, description, panels) in DASHBOARDS.items():
        text = built(f"precall-{name}", title, description, panels)
        (folder / f"{name}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
