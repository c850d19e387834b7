"""What every test shares: the async backend."""

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """asyncio only: the SDK's stdio transport and uvicorn run on nothing else."""
    return "asyncio"
