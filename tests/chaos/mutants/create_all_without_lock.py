"""A server makes the tables that it does not see, without asking whether another one is about to."""

from sqlalchemy import create_engine, make_url

SCENARIO = "tests/chaos/test_f03_restarts.py -k at_once"


def plant() -> None:
    from service.store.schema import metadata
    from service.web import serve

    def create(url: str) -> None:
        parsed = make_url(url)
        engine = create_engine(parsed if parsed.get_backend_name() == "sqlite" else parsed.set(drivername="postgresql+psycopg"))
        metadata.create_all(engine)
        engine.dispose()

    serve.upgrade = create  # type: ignore[attr-defined]
