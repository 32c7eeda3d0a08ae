"""Findings in English: summary, cause, and the comment behind the command. `texts` fills in the facts."""

from precall.core.status.finding import FindingCode

ENGLISH: dict[FindingCode, tuple[str, str, str]] = {
    FindingCode.PROVIDER_FAILING: (
        "Checks fail now: {failures} of the last {checks} got no answer from the provider.",
        "The latest failure was {reply}.",
        "tests key, clock, network and quota one by one; routes are kept, and grow old",
    ),
    FindingCode.PROVIDER_OUT_OF_REACH: (
        "The provider is out of reach: {failures} of the last {checks} checks failed; routes are kept, and grow old.",
        "The latest failure was {reply}.",
        "tests key, clock, network and quota one by one; until ten answers in a row, few checks are made",
    ),
    FindingCode.ACCOUNT_REFUSED: (
        "The provider refuses the account: nothing is checked, and routes grow old.",
        "The provider said {reply}.",
        (
            "names the step that is refused: pay, renew the key, grant the action, or set the clock;"
            " a probe follows every 30 s"
        ),
    ),
    FindingCode.THROTTLED: (
        "The provider throttles checks: {rate} are made, {rate_configured} are configured.",
        "The quota of the account is below provider.rate, or somebody else uses it too.",
        "what this rate achieves; have the quota raised, or lower provider.rate to it",
    ),
    FindingCode.BRAKE_ENGAGED: (
        (
            "The exposure brake of {pool} holds calls: {used} bindings (cap {cap}) have turned to their real"
            " number within {window}, and {held} wait."
        ),
        "So many bindings of one pool without a number are more often a fault of the provider than the truth.",
        "only if the provider confirms that the pool is exhausted: it starts a fresh cap",
    ),
    FindingCode.BRAKE_ORDERED: (
        "The exposure brake of {pool} is engaged by order; no real number is handed out.",
        "An operator engaged it; `precall status` with scope admin says who and why.",
        "once the reason for the order is gone",
    ),
    FindingCode.POOL_IN_TROUBLE: (
        (
            "Of {pool}, {share} of {bindings} bindings are in trouble: {temporary} on a temporary number,"
            " {fallback} without any, {blocked} blocked."
        ),
        "The provider reports their X as unusable, or refuses to answer for those that are blocked.",
        "how the calls of this pool end; ask the provider about it",
    ),
    FindingCode.PAUSED: (
        "Background checks of {pool} are paused; routes grow old.",
        "An operator paused them; `precall status` with scope admin says who and why.",
        "once the reason for the pause is gone",
    ),
    FindingCode.DATABASE_DOWN: (
        "The database takes no writes: registrations are refused, real numbers are held, and {pending} rows wait.",
        "The database said: {error}.",
        "tests the database; repair it before precall is restarted, since unsaved rows are in its memory only",
    ),
    FindingCode.BUDGET_SHORT: (
        (
            "The budget is too small: at {rate}, checking {bindings} bindings takes {longest},"
            " and {max_age} is promised."
        ),
        "freshness.max_age needs {rate_needed}, and provider.rate is {rate_configured}.",
        'have the quota and provider.rate raised, lengthen freshness.max_age, or set freshness.promise = "auto"',
    ),
    FindingCode.DIALS_STALE: (
        (
            "Of the dials of the last {seconds}, {share} got a route older than promised"
            " (freshness.max_age, or the reader's own)."
        ),
        "Live checks were not made or brought no answer in time: the budget is {rate}.",
        "what this rate achieves; raise provider.rate, give readers a longer timeout, or say dial=0 where none follows",
    ),
    FindingCode.ROUTES_OLD: (
        "The oldest route is {oldest} old; none should be older than {limit}.",
        "Checks of the oldest are paused, refused or unanswered, or {rate} is too little for {bindings} bindings.",
        "what this rate achieves; raise provider.rate, or remove bindings that have ended",
    ),
    FindingCode.LOOP_LATE: (
        "The check loop runs up to {lag} late; reads wait as long.",
        "The process gets too little CPU, or a flood of requests keeps it busy.",
        "find what uses the CPU; give precall a core of its own, or lower provider.rate",
    ),
    FindingCode.NOT_LEADING: (
        "This daemon stands by: another precall leads on this database; only reads are answered here.",
        "One daemon leads on a database, and the others take over when it is gone.",
        "nothing to do while the leader is well; ask the leader for the state of the system",
    ),
    FindingCode.SOURCE_FAILING: (
        "Bindings are not synced with the source: new ones are unknown, ended ones stay.",
        "The latest sync failed: {error}.",
        "runs the query now, and names what is wrong; the next sync continues by itself",
    ),
    FindingCode.REMOVALS_REFUSED: (
        "The source no longer has {withheld} live bindings; their removal is refused, and they stay.",
        "The guard says: {guard}.",
        "shows what would go; if it has really ended: precall source apply --force",
    ),
    FindingCode.QUEUE_FAILING: (
        "The provider's message queue cannot be read ({queues}): what it reports is not heard.",
        "The provider said: {error}.",
        "shows [receipts] queue; its name must be the one in the console, and the key must be allowed to read it",
    ),
    FindingCode.NUMBERS_UNUSABLE: (
        "{bindings} bindings are held, because one of their numbers must not be dialled.",
        "A number has an extension joined to it, or X is a party of its own binding; one of them is {first}.",
        "register each again with the number alone and its extension in `extension`",
    ),
    FindingCode.CALLS_DISAGREE: (
        "Calls of {bindings} bindings fail, while the provider says that their numbers work.",
        "Some of them are {examples}.",
        "report these calls to the provider's support; meanwhile: precall override set SUBS_ID hold",
    ),
    FindingCode.CERTIFICATE_ENDING: (
        "The certificate of the API ends in {left}; clients refuse it from then on.",
        "api.tls_cert_file is {file}.",
        "renew the file; precall reads it again by itself",
    ),
    FindingCode.RELOAD_FAILED: (
        "The latest reload of the configuration was refused; the previous one stays in force.",
        "It has mistakes ({mistakes}), the first of them: {error}.",
        "names every mistake; then: precall config reload",
    ),
}
