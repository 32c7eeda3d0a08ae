"""The role of a daemon: only the leader can be fenced, and for good."""

import pytest

from precall.core.role import CurrentRole, Role


def test_a_leader_is_fenced_for_good() -> None:
    role = CurrentRole()
    assert (role.value, role.leads) == (Role.LEADING, True)
    for _ in range(2):
        role.fence()
        assert (role.value, role.leads) == (Role.FENCED, False)


@pytest.mark.parametrize("before", [Role.WAITING, Role.STANDBY])
def test_a_daemon_that_does_not_lead_cannot_be_fenced(before: Role) -> None:
    role = CurrentRole(before)
    role.fence()
    assert (role.value, role.leads) == (before, False)
