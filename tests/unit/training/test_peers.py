"""What several processes conclude from what each of them wants."""

from estimator_lib.training.peers import Peers, Vote, conclude
from estimator_lib.training.run_config import RunConfig


def test_the_shortest_call_is_taken_by_all():
    turn = conclude([Vote(100), Vote(7), Vote(30)])
    assert (turn.steps, turn.save, turn.end, turn.signal) == (7, False, False, 0)


def test_whoever_ends_ends_all():
    assert conclude([Vote(5), Vote(0, end=True)]).end


def test_nothing_is_lost_by_an_end():
    assert conclude([Vote(5, unsaved=True), Vote(0, end=True)]).save
    assert not conclude([Vote(5), Vote(0, end=True)]).save
    assert not conclude([Vote(5, unsaved=True), Vote(5)]).save


def test_a_signal_to_one_is_one_to_all_and_names_it():
    turn = conclude([Vote(5, unsaved=True), Vote(5), Vote(5, signal=15)])
    assert (turn.signal, turn.asked, turn.save) == (15, 2, True)


def test_one_process_is_its_own_peer():
    peers = Peers(None, RunConfig())
    assert not peers.several
    assert peers.turn(Vote(3, save=True)) == conclude([Vote(3, save=True)])
    peers.agree_on_start(4, 2, "rows")
