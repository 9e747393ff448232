"""Session cookies are signed under the token alone, so that a stolen one lets tokens be tried without the server."""

SCENARIO = "tests/chaos/test_f16_access.py::test_a_session_that_is_signed_under_the_token_alone_opens_nothing[sqlite]"


def plant() -> None:
    from service.web.auth import Sessions

    def load(self: Sessions) -> None:
        self._key = self._token.encode()

    Sessions.load = load  # type: ignore[method-assign]
