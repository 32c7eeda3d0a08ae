"""Findings in Chinese: summary, cause, and the comment behind the command. `texts` fills in the facts."""

from precall.core.status.finding import FindingCode

CHINESE: dict[FindingCode, tuple[str, str, str]] = {
    FindingCode.PROVIDER_FAILING: (
        "检查正在失败：最近 {checks} 次检查中有 {failures} 次没有得到供应商的应答。",
        "最近一次失败：{reply}。",
        "逐项检查密钥、时钟、网络和配额；现有路由保留，但会逐渐过时",
    ),
    FindingCode.PROVIDER_OUT_OF_REACH: (
        "供应商无法访问：最近 {checks} 次检查中有 {failures} 次失败；现有路由保留，但会逐渐过时。",
        "最近一次失败：{reply}。",
        "逐项检查密钥、时钟、网络和配额；连续十次应答成功之前只做少量检查",
    ),
    FindingCode.ACCOUNT_REFUSED: (
        "供应商拒绝本账号：检查已停止，路由会逐渐过时。",
        "供应商的应答：{reply}。",
        "指出被拒绝的步骤：缴费、更换密钥、授权该接口或校准时钟；每 30 秒探测一次",
    ),
    FindingCode.THROTTLED: (
        "供应商正在限流：当前 {rate}，配置为 {rate_configured}。",
        "账号配额低于 provider.rate，或有其他程序共用该配额。",
        "查看这一速率的效果；请申请提高配额，或把 provider.rate 降到配额以内",
    ),
    FindingCode.BRAKE_ENGAGED: (
        (
            "{pool} 的真实号码刹车已触发，呼叫被保留：{window} 内已有 {used} 个绑定转为真实号码（上限 {cap}），"
            "另有 {held} 个在等待。"
        ),
        "同一号码池有这么多绑定没有可用号码，多半是供应商的故障，而不是事实。",
        "仅在供应商确认该号码池已耗尽后执行：将重新开始计数",
    ),
    FindingCode.BRAKE_ORDERED: (
        "{pool} 的真实号码刹车由人工启用，不再给出真实号码。",
        "由操作员启用；拥有 admin 权限时，`precall status` 会显示是谁以及原因。",
        "待启用的原因消失后执行",
    ),
    FindingCode.POOL_IN_TROUBLE: (
        (
            "{pool} 的 {bindings} 个绑定中有 {share} 异常："
            "{temporary} 使用临时号码，{fallback} 没有可用号码，{blocked} 被封停。"
        ),
        "供应商报告其 X 号码不可用，或拒绝就被封停的绑定作答。",
        "查看该号码池的通话结果，并向供应商查询",
    ),
    FindingCode.PAUSED: (
        "{pool} 的后台检查已暂停，路由会逐渐过时。",
        "由操作员暂停；拥有 admin 权限时，`precall status` 会显示是谁以及原因。",
        "待暂停的原因消失后执行",
    ),
    FindingCode.DATABASE_DOWN: (
        "数据库无法写入：注册被拒绝，真实号码被保留，{pending} 行数据等待写入。",
        "数据库的报错：{error}。",
        "检查数据库；修复之前请勿重启 precall，未保存的数据只在其内存中",
    ),
    FindingCode.BUDGET_SHORT: (
        "预算不足：按 {rate}，检查完 {bindings} 个绑定需要 {longest}，而承诺为 {max_age}。",
        "freshness.max_age 需要 {rate_needed}，而 provider.rate 为 {rate_configured}。",
        '请提高配额和 provider.rate，或放宽 freshness.max_age，或设置 freshness.promise = "auto"',
    ),
    FindingCode.DIALS_STALE: (
        "最近 {seconds} 的拨号中有 {share} 得到的路由比承诺的更旧（freshness.max_age 或读取方自定）。",
        "实时检查没有进行，或没有及时得到应答：预算为 {rate}。",
        "查看这一速率的效果；请提高 provider.rate、延长读取方的 timeout，或在不拨号时注明 dial=0",
    ),
    FindingCode.ROUTES_OLD: (
        "最旧的路由已有 {oldest}，而任何路由都不应超过 {limit}。",
        "最旧的绑定的检查已暂停、被拒绝或没有应答，或者 {rate} 对 {bindings} 个绑定来说太低。",
        "查看这一速率的效果；请提高 provider.rate，或删除已结束的绑定",
    ),
    FindingCode.LOOP_LATE: (
        "检查循环最多延迟 {lag}，读取也要等待同样的时间。",
        "进程得到的 CPU 太少，或请求过多。",
        "查看谁在占用 CPU；请给 precall 一个独立的核，或降低 provider.rate",
    ),
    FindingCode.NOT_LEADING: (
        "本进程处于待命状态：该数据库由另一个 precall 主持，这里只应答读取。",
        "一个数据库由一个进程主持，它消失后由其他进程接替。",
        "主持进程正常时无需处理；系统状态请向主持进程查询",
    ),
    FindingCode.SOURCE_FAILING: (
        "绑定没有与数据源同步：新的绑定未知，已结束的仍然保留。",
        "最近一次同步失败：{error}。",
        "立即执行查询并指出错误；修复后下一次同步会自动继续",
    ),
    FindingCode.REMOVALS_REFUSED: (
        "数据源中已没有 {withheld} 个有效绑定；它们的删除被拒绝，绑定保留。",
        "保护规则：{guard}。",
        "显示将被删除的绑定；如确已结束：precall source apply --force",
    ),
    FindingCode.QUEUE_FAILING: (
        "无法读取供应商的消息队列（{queues}）：收不到其中的通知。",
        "供应商返回：{error}。",
        "显示 [receipts] queue；其名称须与控制台一致，且密钥须有读取权限",
    ),
    FindingCode.NUMBERS_UNUSABLE: (
        "{bindings} 个绑定被保留，因为其中有号码不得拨打。",
        "号码后连着分机号，或 X 就是该绑定的一方；例如 {first}。",
        "请重新注册：号码单独填写，分机号填在 `extension`",
    ),
    FindingCode.CALLS_DISAGREE: (
        "{bindings} 个绑定的通话失败，而供应商称其号码正常。",
        "例如 {examples}。",
        "请把这些通话报告给供应商；期间可执行：precall override set SUBS_ID hold",
    ),
    FindingCode.CERTIFICATE_ENDING: (
        "API 证书将在 {left} 后到期，之后客户端会拒绝它。",
        "api.tls_cert_file 为 {file}。",
        "请更新该文件；precall 会自动重新读取",
    ),
    FindingCode.RELOAD_FAILED: (
        "最近一次重新加载配置被拒绝，原配置继续有效。",
        "配置中有 {mistakes} 处错误，第一处：{error}。",
        "列出所有错误；改正后：precall config reload",
    ),
}

CHINESE_REPLIES: dict[str, str] = {
    "timeout": "在 provider.timeout 内没有完整应答",
    "connect_timeout": "连接超时",
    "dns": "域名无法解析",
    "connect": "连接被拒绝或无法到达",
    "tls": "TLS 握手失败",
    "proxy_connect": "代理无法访问",
    "proxy_refused": "代理不放行",
    "proxy_auth": "代理要求用户名和密码",
    "reset": "应答之前连接被断开",
    "truncated": "应答中途连接被断开",
    "bad_http": "返回的不是 HTTP",
    "io": "连接失败",
    "no_credential": "没有密钥",
    "redirect": "返回重定向",
    "html": "返回的是网页",
    "empty": "空应答",
    "http_5xx": "服务器错误，没有错误码",
    "http_404": "接口地址返回 404",
    "http_denied": "访问被拒绝",
    "OUT_OF_SERVICE": "账号欠费或停用",
}
"""What a failed call means, by its code. Others are told by the code alone."""
