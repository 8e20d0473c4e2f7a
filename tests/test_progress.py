"""Messages go to standard error; bars count, show figures now and then, and may stand in one another."""

import io

import pytest
from rich.console import Console

from limbeck import progress
from limbeck.progress import Plain, Silent, Terminal, display


def shown(terminal: Terminal) -> str:
    stream = terminal._console.file
    assert isinstance(stream, io.StringIO)
    return stream.getvalue()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    made = Terminal()
    made._console = Console(
        file=io.StringIO(), force_terminal=True, width=140, highlight=False, force_interactive=True
    )
    return made


def test_silence(capsys: pytest.CaptureFixture[str]) -> None:
    quiet = Silent()
    quiet.say("word")
    with quiet.bar("title", 3, "steps") as bar:
        bar.advance(1, {"loss": 1.0})
        assert not bar.due()
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_plain_lines_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    plain = Plain()
    plain.say("[one] 1/2")
    with plain.bar("title", 3, "steps") as bar:
        assert not bar.due()  # nobody would see the figures: do not wait for them
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "[one] 1/2\n")


def test_which_display_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    assert type(display(quiet=True)) is Silent
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: False, raising=False)
    assert type(display()) is Plain
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True, raising=False)
    assert type(display()) is Terminal


def test_a_bar_counts_from_what_is_done_and_shows_figures(terminal: Terminal) -> None:
    with terminal.bar("student [seed 0] {x}", 10, "steps", done=4) as bar:
        bar.advance(2, {"loss": 0.123456, "kd": 12345.6})
        terminal._live.refresh()
    text = shown(terminal)
    assert "student [seed 0] {x}" in text
    assert "6/10" in text
    assert "loss 0.1235  kd 1.235e+04" in text


def test_figures_are_due_now_and_then(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with terminal.bar("title", 10, "steps") as bar:
        assert bar.due()
        bar.advance(1, {"loss": 1.0})
        assert not bar.due()
        bar.advance(1)
        assert not bar.due()
        now += 0.3
        assert bar.due()


def test_messages_between_are_whole_lines_and_no_markup(terminal: Terminal) -> None:
    terminal.say("before [bold]")
    with terminal.bar("title", 2, "steps") as bar:
        terminal.say("student: epoch 1/2 [x]")
        bar.advance(1)
    terminal.say("after")
    lines = [line.strip() for line in shown(terminal).replace("\r", "\n").splitlines()]
    assert "before [bold]" in lines
    assert any(line.endswith("student: epoch 1/2 [x]") for line in lines)
    assert any(line.endswith("after") for line in lines)


def test_after_an_error_the_terminal_is_usable_again(terminal: Terminal) -> None:
    with pytest.raises(ValueError, match="mine"), terminal.bar("title", 2, "steps"):
        raise ValueError("mine")
    with terminal.bar("title", 2, "steps") as bar:
        bar.advance(2)
    assert terminal._live is None
