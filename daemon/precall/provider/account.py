"""The provider's account as the configuration names it: whose key signs, and how the provider is reached."""

from precall.config.schema import ProviderConfig, secret
from precall.core.errors import ConfigError
from precall.provider import Credential, Credentials, ProviderSettings


def provider_settings(config: ProviderConfig) -> ProviderSettings:
    """What the provider client needs of the configuration."""
    return ProviderSettings(
        endpoint=config.endpoint,
        call_detail_endpoint=config.call_detail_endpoint,
        status_source=config.status_source,
        signature=config.signature,
        format=config.format,
        timeout=config.timeout,
        connect_timeout=min(0.5, config.timeout),
        send_call_no=config.send_call_no,
        max_in_flight=2 * config.max_in_flight,
        proxy=config.proxy,
    )


def credentials(config: ProviderConfig) -> Credentials:
    """The configured access key, or the provider's default chain when there is none. ConfigError."""
    if not config.access_key_id:
        return Credentials(None)
    key = secret(config.access_key_secret, config.access_key_secret_file, "provider.access_key_secret_file")
    token = secret(config.security_token, config.security_token_file, "provider.security_token_file")
    try:
        return Credentials(Credential(config.access_key_id, key, token))
    except ValueError as error:
        raise ConfigError([f"provider.access_key_id, access_key_secret or security_token: {error}"]) from None
