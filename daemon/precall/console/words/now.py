"""Texts of the page Now."""

EN = {
    "now.title": "Now",
    "now.fine": "Everything is fine.",
    "now.degraded": "Dispatchers get right routes, but something needs attention.",
    "now.misleading": "Dispatchers get wrong routes, or will soon.",
    "now.findings": "What is wrong",
    "now.nothing": "Nothing is wrong.",
    "now.cause": "Cause",
    "now.remedy": "What helps",
    "now.runbook": "Runbook",
    "now.since": "since {time}",
    "severity.critical": "Critical",
    "severity.warning": "Warning",
}

ZH = {
    "now.title": "现状",
    "now.fine": "一切正常。",
    "now.degraded": "调度方得到的路由是正确的，但有问题需要处理。",
    "now.misleading": "调度方正在或即将得到错误的路由。",
    "now.findings": "存在的问题",
    "now.nothing": "没有问题。",
    "now.cause": "原因",
    "now.remedy": "处理办法",
    "now.runbook": "运维手册",
    "now.since": "自 {time}",
    "severity.critical": "严重",
    "severity.warning": "警告",
}
