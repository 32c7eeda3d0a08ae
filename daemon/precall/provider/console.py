"""Where the provider's web pages show what precall needs, and explain the codes of errors.

Sources: the product pages of QueryCallStatus and QueryCallDetailByCallId.
"""

POOL_KEY_PLACE = "the console shows it under 号码池管理 (number pools)"
SUBS_ID_PLACE = (
    "BindAxb and its siblings return the SubsId, and the console shows it under 号码管理 > 号码详情"
    " (numbers > details)"
)
STATUS_ERRORS = "https://error-center.aliyun.com/status/product/Dyplsapi"
DETAIL_ERRORS = "https://error-center.aliyun.com/status/product/Dyvmsapi"
