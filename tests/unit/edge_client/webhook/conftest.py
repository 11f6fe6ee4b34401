"""What the receiver's tests share."""

import pytest

SECRET = "0123456789abcdef-secret"


class Desk:
    """Takes sessions in, as long as there is room."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.has_room = True

    def offer(self, session: object) -> bool:
        """Take one."""
        if self.has_room:
            self.taken.append(str(session))
        return self.has_room


@pytest.fixture
def desk() -> Desk:
    return Desk()
