"""What precall assumes about the provider, and the evidence for each assumption. The table of docs/provider.md is made
from this list, and `precall doctor --contact` examines it against a real account.

The documentation describes an action that the official SDK no longer has, and leaves much open. So most assumptions
can only be settled with a real account.
"""

from dataclasses import dataclass
from enum import StrEnum

EVERY_CALL = "every call"
"""In place of a probe: every reply of a contact counts."""


class Evidence(StrEnum):
    """What an assumption rests on, the strongest first."""

    PAGE = "page"
    SDK = "SDK"
    FORUM = "forum"
    ASSUMED = "assumed"


@dataclass(frozen=True, slots=True)
class Assumption:
    """One assumption, as a sentence that a reply can confirm or refute.

    `probe` names the probe that shows it, "" if no contact can. `hint` says what to do, or why nothing is to be done,
    once it is refuted.
    """

    name: str
    text: str
    evidence: Evidence
    source: str
    probe: str = ""
    hint: str = ""


_STATUS_PAGE = "product page of QueryCallStatus"
_DETAIL_PAGE = "product page of QueryCallDetailByCallId"
_CODES = "error codes of the number-privacy product"
_GATEWAY = "common error codes of the gateway"
_SUBSTITUTE = (
    'set provider.status_source = "subscription_detail": expiry and a doubtful X, no temporary number'
)
_CONFIRMED_TWICE = (
    "nothing to configure: precall ends a binding for Status 4, and for a code of no such binding twice"
)

ASSUMPTIONS = (
    # -- the way there
    Assumption(
        "served",
        "QueryCallStatus is served, though the SDK dropped it and the list of actions no longer has it.",
        Evidence.ASSUMED,
        f"{_STATUS_PAGE}; in the Python SDK up to 1.0.5 (2022-05), not from 1.0.6 (2023-02) on",
        "live",
        _SUBSTITUTE,
    ),
    Assumption(
        "substitutes",
        "QuerySubscriptionDetail and QuerySecretNoDetail are served.",
        Evidence.SDK,
        "models of dyplsapi 2.5.1, and the list of actions",
        "subscription",
        'keep provider.status_source = "call_status"',
    ),
    Assumption(
        "acs3",
        "A request signed with ACS3-HMAC-SHA256 in headers is accepted.",
        Evidence.ASSUMED,
        "the page of the V3 signature recommends it; the SDK that had the action signed with RPC",
        "signature",
        'set provider.signature = "rpc"',
    ),
    Assumption(
        "rpc",
        "A request signed with RPC HMAC-SHA1, with its parameters in a form, is accepted.",
        Evidence.SDK,
        "dyplsapi 1.0.0, the first client, sent it so",
        "signature",
        'set provider.signature = "acs3"',
    ),
    Assumption(
        "json",
        "Asked for JSON, the provider replies in JSON.",
        Evidence.PAGE,
        f"{_STATUS_PAGE}; the SDK always asks for it",
        "format",
        "nothing to configure: precall reads the format that comes",
    ),
    Assumption(
        "xml",
        "Asked for XML, the provider replies in XML.",
        Evidence.PAGE,
        _STATUS_PAGE,
        "format",
        "nothing to configure: precall reads the format that comes",
    ),
    Assumption(
        "request_id",
        "Every reply carries a RequestId, by which support finds the call.",
        Evidence.PAGE,
        _STATUS_PAGE,
        EVERY_CALL,
        "nothing to configure; the history of checks then lacks these ids",
    ),
    Assumption(
        "clock",
        "This machine's clock is within 30 s of the provider's; more than 15 minutes are refused.",
        Evidence.PAGE,
        f"{_GATEWAY}: InvalidTimeStamp.Expired",
        EVERY_CALL,
        "set this machine's clock (NTP): expiry is judged by it",
    ),
    Assumption(
        "latency",
        "A reply comes within provider.timeout.",
        Evidence.ASSUMED,
        "the official SDK waits 10 s",
        EVERY_CALL,
        "raise provider.timeout, or look for what is slow on the way",
    ),
    # -- what an answer says
    Assumption(
        "status_values",
        "Status is 1, 2, 3 or 4, and nothing else.",
        Evidence.PAGE,
        _STATUS_PAGE,
        EVERY_CALL,
        "routes stay as they are under another Status; report the transcript as a bug",
    ),
    Assumption(
        "status_1",
        "Under Status 1, CalledNo is the X of the binding.",
        Evidence.PAGE,
        _STATUS_PAGE,
        "survey",
        "compare number_x of the file with the provider's console: precall dials the number of the reply",
    ),
    Assumption(
        "status_2",
        "Under Status 2, CalledNo is a temporary number other than X.",
        Evidence.PAGE,
        _STATUS_PAGE,
        "survey",
        "precall dials no temporary number that is missing; ask the provider for the meaning of this reply",
    ),
    Assumption(
        "status_3",
        "Under Status 3 there is no number, and the real one may be dialled.",
        Evidence.PAGE,
        _STATUS_PAGE,
        "survey",
        "nothing to configure: precall ignores the number",
    ),
    Assumption(
        "extension",
        "Where X is dialled with an extension, the answer has it as Extension.",
        Evidence.SDK,
        "models of dyplsapi 1.0.2 to 1.0.5; the page lacks the field",
        "survey",
        "ask the provider for the extension of this binding, and compare it with the file",
    ),
    Assumption(
        "same_temporary",
        "A binding asked again under Status 2 keeps its temporary number: asking allocates nothing.",
        Evidence.ASSUMED,
        "the page says that the platform allocates one, and not when",
        "again",
        "each check spends a number of the pool: raise freshness.abnormal_min_interval, keep policy.temporary_ttl"
        " above it, and the pool of temporary numbers large",
    ),
    Assumption(
        "call_no_optional",
        "CallNo may be left out.",
        Evidence.PAGE,
        _STATUS_PAGE,
        "live",
        'set provider.send_call_no = "number_a"',
    ),
    Assumption(
        "call_no_a",
        "The answer is the same with A as CallNo as without it.",
        Evidence.ASSUMED,
        "the page says no more than that CallNo is the calling number",
        "call_no_a",
        'set provider.send_call_no = "number_a" if calls come from A',
    ),
    Assumption(
        "call_no_b",
        "The answer is the same with B as CallNo as without it.",
        Evidence.ASSUMED,
        "the page says no more than that CallNo is the calling number",
        "call_no_b",
        "a route holds for one side only: ask the provider what CallNo selects before B's calls rely on it",
    ),
    # -- bindings that have ended or never were
    Assumption(
        "expired",
        "An expired binding is Status 4, not an error.",
        Evidence.PAGE,
        _STATUS_PAGE,
        "expired",
        _CONFIRMED_TWICE,
    ),
    Assumption(
        "unbound",
        "A binding that was unbound is refused with isv.SUBS_NOT_EXIST.",
        Evidence.ASSUMED,
        f"{_CODES}: the meaning of the code",
        "unbound",
        _CONFIRMED_TWICE + "; where it stays in effect, remove it from precall when you unbind it",
    ),
    Assumption(
        "unknown_binding",
        "A SubsId that never was is refused with isv.SUBS_NOT_EXIST.",
        Evidence.PAGE,
        _CODES,
        "unknown_binding",
        "precall does not take such a binding for ended: remove bindings that you unbind from precall",
    ),
    Assumption(
        "unknown_pool",
        "A pool that the account lacks is refused with isv.POOLKEY_NOT_EXISTS, in one of its spellings.",
        Evidence.PAGE,
        f"{_CODES}; spellings drift between pages",
        "unknown_pool",
        "a mistaken pool_key may look like an ended binding: check the pool keys of what you import",
    ),
    Assumption(
        "business_http",
        "A refusal about a binding comes with HTTP 200 and a Code of its own.",
        Evidence.ASSUMED,
        "older pages; newer ones list the same codes with HTTP 400 and 500",
        "unknown_binding",
        "nothing to configure: precall goes by the Code first",
    ),
    Assumption(
        "unknown_action",
        "An action that is not served is refused with HTTP 404 and InvalidAction.NotFound or InvalidApi.NotFound.",
        Evidence.PAGE,
        _GATEWAY,
        "unknown_action",
        "a delisted action might not be recognized: watch for failing checks, and report the transcript as a bug",
    ),
    # -- limits
    Assumption(
        "rate",
        "The account may make provider.rate calls per second.",
        Evidence.ASSUMED,
        "no page has a limit for QueryCallStatus; its substitutes are documented with 1,000 per second",
        EVERY_CALL,
        "lower provider.rate, or ask the provider for more",
    ),
    Assumption(
        "throttling",
        "A throttled call has a Code such as Throttling.User or isv.FLOW_LIMIT, not only an HTTP status.",
        Evidence.PAGE,
        f"{_GATEWAY} (HTTP 400) and {_CODES}",
        "burst",
        "precall may take throttling for another failure: lower provider.rate, and report the transcript as a bug",
    ),
    Assumption(
        "retry_after",
        "The header x-acs-retry-after of a throttled call is in milliseconds.",
        Evidence.SDK,
        "the retry policy of the official core library",
        "burst",
        "nothing to configure: a value that is no number is ignored",
    ),
    # -- calls
    Assumption(
        "call_detail",
        "QueryCallDetailByCallId is served, and knows nothing about a call that never was: Code OK without Data.",
        Evidence.PAGE,
        _DETAIL_PAGE,
        "call_detail",
        "outcomes of calls placed through the voice service are then learned from receipts and reports alone",
    ),
    Assumption(
        "query_date",
        "QueryDate is in milliseconds, and midnight in Shanghai selects the whole day.",
        Evidence.PAGE,
        f"{_DETAIL_PAGE}; its example is in seconds, and a newer page reads it as the 24 h that follow",
    ),
    Assumption(
        "detail_delay",
        "The detail of a call appears three to five minutes after its end, and is empty until then.",
        Evidence.PAGE,
        "newer page of QueryCallDetailByCallId",
    ),
    Assumption(
        "detail_rate",
        "QueryCallDetailByCallId may be called 100 times a minute.",
        Evidence.PAGE,
        f"{_DETAIL_PAGE}; a newer page says per second",
    ),
    Assumption(
        "receipts",
        "Receipts may come twice and in any order; their times are Beijing time, without a zone.",
        Evidence.PAGE,
        "pages of the receipts; the zone by analogy with other pages",
    ),
    Assumption(
        "queue_protocol",
        "A queue is Message Service's: received messages are hidden for a while, and come again until deleted.",
        Evidence.PAGE,
        "pages of BatchReceiveMessage, BatchDeleteMessage and request signatures",
    ),
    Assumption(
        "queue_token",
        "QueryTokenForMnsQueue gives out a queue's temporary key; it ends at ExpireTime, by the clock of Beijing.",
        Evidence.SDK,
        "Dybaseapi SDK and the product's demos; the zone from a public project. A refused key is renewed anyway",
    ),
    Assumption(
        "queue_body",
        "A message is one report in JSON, in Base64; an array, or JSON without Base64, is read as well.",
        Evidence.SDK,
        "the product's demos decode it so",
    ),
    Assumption(
        "queue_kinds",
        "A queue has reports of one kind, which is the end of its name; that of abnormal X comes by queue only.",
        Evidence.PAGE,
        "page of SecretExceptionPhoneReport, and the list of kinds",
    ),
    # -- what no contact can see
    Assumption(
        "temporary_lifetime",
        "A temporary number reaches the callee until another answer, or for policy.temporary_ttl.",
        Evidence.ASSUMED,
        "no page says how long; it may be given to another binding afterwards",
    ),
    Assumption(
        "expired_is_final",
        "A binding under Status 4 never returns; a new one gets a new SubsId.",
        Evidence.PAGE,
        f"{_CODES}: an expired binding cannot be extended",
    ),
    Assumption(
        "quota_is_shared",
        "The limit holds for the whole account, with all its users and keys.",
        Evidence.ASSUMED,
        "so it is for another product of the provider",
    ),
    Assumption(
        "nonce_once",
        "A nonce is refused the second time within 15 minutes; a new one helps.",
        Evidence.PAGE,
        f"{_GATEWAY}: SignatureNonceUsed",
    ),
    Assumption(
        "account_codes",
        "Arrears, a closed product and missing rights have codes of their own, never those of a binding.",
        Evidence.FORUM,
        f"{_CODES}, and questions of customers who met them",
    ),
)
"""Every assumption, in the order of the report."""
