"""The process that all hostile tests fork their commands from."""

import pytest
from hostile.kit import Template


@pytest.fixture(scope="session")
def template():
    """Everything imported once."""
    process = Template()
    yield process
    process.close()
