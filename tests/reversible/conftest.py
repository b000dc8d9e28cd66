import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Sharing tensors of some hundred elements takes longer than computing them."""
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(count)
