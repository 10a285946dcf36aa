"""Which document kills: found from what was running when processes died."""

from jobs.engine.suspects import Advice, Suspects

UNIT = "unit"


def run(killers: set[int], num_rows: int = 1000, piece: int = 128) -> tuple[Advice, int]:
    """Make a unit in which some rows kill, as a replica does; the advice that worked, and the number of deaths."""
    suspects = Suspects()
    for deaths in range(100):
        advice = suspects.start_unit(UNIT)
        if advice.refusal or not _dies(suspects, advice, killers, num_rows, piece):
            return advice, deaths
    raise AssertionError("no end")


def _dies(suspects: Suspects, advice: Advice, killers: set[int], num_rows: int, piece: int) -> bool:
    for start in range(0, num_rows, piece):
        for first, last, is_killer in advice.pieces(start, min(start + piece, num_rows)):
            if is_killer:
                continue
            if advice.is_isolated:
                suspects.mark_running(UNIT, first, last)
            if killers & set(range(first, last)):
                return True
    return False


def test_the_first_start_is_not_isolated() -> None:
    advice = Suspects().start_unit(UNIT)
    assert not advice.is_isolated
    assert list(advice.pieces(0, 10)) == [(0, 10, False)]


def test_a_killer_among_a_thousand_rows_is_found_in_four_deaths() -> None:
    for row in (0, 127, 128, 500, 999):
        advice, deaths = run({row})
        assert (set(advice.killers), deaths, advice.refusal) == ({row}, 4, None)


def test_several_killers_are_found() -> None:
    advice, deaths = run({3, 4, 700})
    assert set(advice.killers) == {3, 4, 700}
    assert deaths <= 10


def test_too_many_killers_are_refused() -> None:
    advice, deaths = run(set(range(1000)))
    assert advice.refusal is not None
    assert deaths <= 21


def test_a_row_that_was_computed_once_when_a_process_died_is_tried_again() -> None:
    suspects = Suspects()
    suspects.start_unit(UNIT)
    suspects.start_unit(UNIT)
    suspects.mark_running(UNIT, 0, 128)
    suspects.start_unit(UNIT)
    suspects.mark_running(UNIT, 7, 8)
    assert suspects.start_unit(UNIT).killers == frozenset()


def test_two_deaths_while_nothing_was_computed_are_refused() -> None:
    suspects = Suspects()
    assert [suspects.start_unit(UNIT).refusal is None for _ in range(3)] == [True, True, False]
    assert suspects.starts() == {UNIT: 3}


def test_pieces_are_cut_around_suspects_and_killers() -> None:
    advice = Advice(3, suspects=(4, 6), killers={8})
    assert list(advice.pieces(0, 10)) == [
        (0, 4, False),
        (4, 5, False),
        (5, 6, False),
        (6, 8, False),
        (8, 9, True),
        (9, 10, False),
    ]
