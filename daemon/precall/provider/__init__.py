"""The provider: signatures, requests, replies, receipts and credentials.

What to ask, and what an answer means for a route, is decided in `core`.
"""

from precall.provider.advice import ErrorAdvice, error_advice
from precall.provider.client import (
    DETAIL,
    NUMBER,
    QUESTIONS,
    STATUS,
    SUBSCRIPTION,
    Provider,
    StatusSource,
    TimedReply,
)
from precall.provider.console import POOL_KEY_PLACE, SUBS_ID_PLACE
from precall.provider.credentials import Credentials, configured_credentials
from precall.provider.endpoint import RawReply
from precall.provider.failures import TransportTrouble
from precall.provider.message_queue import MessageQueue
from precall.provider.mns import QueueMessage
from precall.provider.proxy import Proxy, proxy_for
from precall.provider.receipts import BadReceipt, IgnoredReceipt, kept, read_receipt
from precall.provider.replies import CallDetail, read_detail, read_status
from precall.provider.sign import Credential
from precall.provider.substitutes import read_secret_no, read_subscription

__all__ = [
    "DETAIL",
    "NUMBER",
    "POOL_KEY_PLACE",
    "QUESTIONS",
    "STATUS",
    "SUBSCRIPTION",
    "SUBS_ID_PLACE",
    "BadReceipt",
    "CallDetail",
    "Credential",
    "Credentials",
    "ErrorAdvice",
    "IgnoredReceipt",
    "MessageQueue",
    "Provider",
    "Proxy",
    "QueueMessage",
    "RawReply",
    "StatusSource",
    "TimedReply",
    "TransportTrouble",
    "configured_credentials",
    "error_advice",
    "kept",
    "proxy_for",
    "read_detail",
    "read_receipt",
    "read_secret_no",
    "read_status",
    "read_subscription",
]
