"""The sinks that the settings of a server name."""

from collections.abc import Iterator
from importlib.util import find_spec

from search_spaces import Fault
from service.domain.errors import InvalidInput
from service.outputs.following import Sink
from service.outputs.mlflow_runs import MlflowSink
from service.outputs.webhooks import DEFAULT_KINDS, SHORTEST_SECRET, Target, Webhook, kinds_matching
from service.settings import Settings
from service.store import Store
from trainer.files import read_regular

MOST_SECRET_BYTES = 4096


def sinks_of(store: Store, settings: Settings) -> list[Sink]:
    """The sinks. Raises InvalidInput that names the setting."""
    found = list[Sink](_webhooks(store, settings))
    if settings.mlflow_uri is not None:
        if find_spec("mlflow") is None:
            raise _invalid("mlflow_uri", "MLflow is not installed: pip install 'thawline[mlflow]'")
        try:
            found.append(MlflowSink(store, settings.mlflow_uri))
        except ValueError as error:
            raise _invalid("mlflow_uri", str(error)) from None
    names = [one.name for one in found]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise _invalid("webhooks", f"{repeated[0]} is given twice; remove one")
    return found


def _webhooks(store: Store, settings: Settings) -> Iterator[Webhook]:
    if not settings.webhooks:
        return
    try:
        chosen = kinds_matching(settings.webhook_events)
    except ValueError as error:
        raise _invalid("webhook_events", str(error)) from None
    secret = _secret(settings)
    for text in settings.webhooks:
        try:
            target = Target.parse(text, settings.webhook_hosts)
        except ValueError as error:
            raise _invalid("webhooks", str(error)) from None
        if secret is None and target.preset == "json":
            wanted = "write one of 16 or more characters to THAW_WEBHOOK_SECRET, or its file to THAW_WEBHOOK_SECRET_FILE; make one with"
            raise _invalid(
                "webhook_secret", f"the webhook to {target.host} needs a secret for its signature; {wanted} `openssl rand -hex 24`"
            )
        yield Webhook(store, target, secret if target.preset == "json" else None, chosen or DEFAULT_KINDS[target.preset])


def _secret(settings: Settings) -> str | None:
    secret = settings.webhook_secret
    if settings.webhook_secret_file is not None:
        try:
            secret = read_regular(settings.webhook_secret_file, MOST_SECRET_BYTES).decode().strip()
        except (OSError, ValueError):
            raise _invalid("webhook_secret_file", "the file cannot be read as text; correct the path or its permissions") from None
    if secret is not None and len(secret) < SHORTEST_SECRET:
        raise _invalid("webhook_secret", "a secret has 16 or more characters; make one with `openssl rand -hex 24`")
    return secret


def _invalid(setting: str, message: str) -> InvalidInput:
    return InvalidInput([Fault((setting,), "invalid_setting", f"THAW_{setting.upper()}: {message}")])
