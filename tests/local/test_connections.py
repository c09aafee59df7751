"""Who is connected: groups and users, as the recorded REST calls found them, with an injected clock."""

from dataclasses import dataclass

import pytest

from signalr_upstream.local.connections import Hub


@dataclass(frozen=True)
class Client:
    connection_id: str
    user_id: str | None = None


A, B, C, D = Client("a", "ann"), Client("b", "bob"), Client("c", "ann"), Client("d")


@pytest.fixture
def hub() -> Hub[Client]:
    hub: Hub[Client] = Hub()
    for client in (A, B, C, D):
        hub.add(client, now=0)
    return hub


def test_everybody_one_user_and_one_connection_are_found(hub: Hub[Client]) -> None:
    assert hub.everybody() == [A, B, C, D]
    assert hub.everybody(excluding={"a", "nobody"}) == [B, C, D]
    assert hub.user("ann") == [A, C]
    assert hub.user("ann", excluding={"a"}) == [C]
    assert hub.user("Ann") == [], "users are compared with case"
    assert hub.connection("d") is D
    assert hub.connection("x") is None


def test_a_group_exists_while_somebody_is_in_it(hub: Hub[Client]) -> None:
    assert hub.join("a", "g")
    assert hub.join("a", "g")
    assert not hub.join("nobody", "g")

    assert hub.group("g") == [A]
    assert hub.group("G") == []
    assert hub.leave("a", "g")
    assert not hub.leave("a", "g")
    assert hub.group("g") == []


def test_a_connection_that_goes_leaves_its_groups_and_its_user(hub: Hub[Client]) -> None:
    for group in ("g", "h"):
        hub.join("a", group)
        hub.join("d", group)

    hub.remove(A)
    hub.remove(D)
    hub.remove(D)

    assert hub.group("g") == hub.group("h") == []
    assert hub.user("ann") == [C]
    assert hub.everybody() == [B, C]


def test_leaving_all_groups_keeps_the_connection(hub: Hub[Client]) -> None:
    hub.join("a", "g")
    hub.join("b", "g")

    hub.leave_all("a")
    hub.leave_all("nobody")

    assert hub.group("g") == [B]
    assert hub.connection("a") is A


def test_a_user_joins_with_present_and_future_connections(hub: Hub[Client]) -> None:
    hub.user_join("ann", "g", ttl=None, now=0)
    later = Client("e", "ann")
    hub.add(later, now=10_000_000)

    assert hub.group("g") == [A, C, later]
    assert hub.user_in_group("ann", "g", now=10_000_000)


def test_a_membership_without_a_time_to_live_lasts_a_year(hub: Hub[Client]) -> None:
    hub.user_join("bob", "g", ttl=None, now=100)

    assert hub.user_in_group("bob", "g", now=100 + 365 * 86400 - 1)
    assert not hub.user_in_group("bob", "g", now=100 + 365 * 86400)


def test_joining_again_counts_anew(hub: Hub[Client]) -> None:
    hub.user_join("bob", "g", ttl=10, now=100)
    hub.user_join("bob", "g", ttl=10, now=105)
    assert hub.user_in_group("bob", "g", now=114)

    hub.user_join("bob", "g", ttl=0, now=114)
    assert not hub.user_in_group("bob", "g", now=114)
    assert hub.group("g") == [B]


def test_of_groups_without_a_time_to_live_the_hundred_newest_are_kept(hub: Hub[Client]) -> None:
    hub.user_join("bob", "limited", ttl=1000, now=0)
    for index in range(100):
        hub.user_join("bob", f"g{index}", ttl=None, now=index)
    hub.user_join("bob", "g0", ttl=None, now=100)  # updated: g1 is the oldest now

    hub.user_join("bob", "one more", ttl=None, now=101)

    kept = hub.memberships("bob", now=101)
    assert set(kept) == {"limited", "one more", "g0", *(f"g{index}" for index in range(2, 100))}
    assert (kept["limited"].limited, kept["g0"].limited) == (True, False)
    assert hub.group("g1") == [B], "who is connected stays"


def test_a_page_of_a_group_is_in_the_order_of_ids(hub: Hub[Client]) -> None:
    for name in ("d", "b", "a", "c"):
        hub.join(name, "g")

    assert hub.group_page("g", after="", size=2) == ([A, B], True)
    assert hub.group_page("g", after="b", size=2) == ([C, D], False)
    assert hub.group_page("g", after="d", size=2) == ([], False)
    assert hub.group_page("x", after="", size=2) == ([], False)


def test_the_groups_of_a_connection_are_known(hub: Hub[Client]) -> None:
    hub.join("a", "g")
    hub.user_join("ann", "h", ttl=None, now=0)
    assert set(hub.groups_of("a")) == {"g", "h"}

    hub.leave("a", "g")
    assert set(hub.groups_of("a")) == {"h"}
    assert not hub.groups_of("x")


def test_an_offline_user_can_be_added(hub: Hub[Client]) -> None:
    # recorded: ug_add_offline_user, ug_exists_offline_get
    hub.user_join("eve", "g", ttl=None, now=0)

    assert hub.user_in_group("eve", "g", now=1)
    assert hub.group("g") == []


def test_a_membership_with_a_time_to_live_ends_but_its_connections_stay(hub: Hub[Client]) -> None:
    # recorded: ug_exists_3s_after_ttl1, ug_send_3s_after_ttl1
    hub.user_join("bob", "g", ttl=1, now=100)
    assert hub.user_in_group("bob", "g", now=100.9)

    assert not hub.user_in_group("bob", "g", now=101)
    hub.add(Client("late", "bob"), now=101)

    assert hub.group("g") == [B]


def test_a_membership_that_ended_unseen_is_not_inherited(hub: Hub[Client]) -> None:
    hub.user_join("bob", "g", ttl=1, now=100)

    hub.add(Client("late", "bob"), now=101)

    assert hub.group("g") == [B]


def test_no_time_to_live_means_the_present_connections_only(hub: Hub[Client]) -> None:
    hub.user_join("bob", "g", ttl=0, now=100)
    hub.add(Client("late", "bob"), now=100)

    assert hub.group("g") == [B]


def test_a_connection_in_a_group_does_not_put_its_user_there(hub: Hub[Client]) -> None:
    # NOTES, REST: it looks only at what was added by user
    hub.join("a", "g")

    assert not hub.user_in_group("ann", "g", now=0)


def test_a_user_leaves_with_all_connections_however_they_joined(hub: Hub[Client]) -> None:
    # recorded: mix_remove_user_all
    hub.join("a", "own")
    hub.join("b", "own")
    hub.user_join("ann", "g", ttl=None, now=0)
    hub.user_join("ann", "h", ttl=None, now=0)

    hub.user_leave("ann", "g")
    assert not hub.user_in_group("ann", "g", now=0)
    assert hub.group("g") == []
    assert hub.group("h") == [A, C]
    hub.user_leave_all("ann")
    hub.user_leave_all("nobody")
    hub.user_leave("nobody", "g")

    assert hub.group("own") == [B]
    assert hub.group("h") == []


def test_a_hub_that_everybody_has_left_keeps_nothing(hub: Hub[Client]) -> None:
    hub.join("a", "g")
    hub.user_join("ann", "g", ttl=None, now=0)
    hub.user_join("bob", "g", ttl=0, now=0)
    hub.user_join("eve", "g", ttl=1, now=0)

    hub.user_leave("ann", "g")
    for member in hub.everybody():
        hub.remove(member)
    for user_id in ("ann", "eve"):
        assert not hub.user_in_group(user_id, "g", now=2)

    assert vars(hub) == vars(Hub())
