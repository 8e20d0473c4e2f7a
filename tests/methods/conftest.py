"""After the tests: how many methods are exempt from which check of the contract, and why."""

from collections import defaultdict

import pytest

EXEMPT = pytest.StashKey[dict[str, dict[str, str]]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[EXEMPT] = defaultdict(dict)


@pytest.fixture
def exempt(request: pytest.FixtureRequest) -> dict[str, dict[str, str]]:
    """By check, by method: the reason for an exemption; printed at the end."""
    # A conftest below the root is configured only when pytest is pointed at its folder.
    return request.config.stash.setdefault(EXEMPT, defaultdict(dict))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    found = config.stash.get(EXEMPT, {})
    if not found:
        return
    terminalreporter.section("methods exempt from the contract")
    for check, methods in sorted(found.items()):
        listed = ", ".join(f"{name} ({reason})" for name, reason in sorted(methods.items()))
        terminalreporter.line(f"{check}: {len(methods)}: {listed}")
