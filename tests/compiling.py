"""What tests of ``torch.compile`` need."""

import pytest
import torch

compiles = pytest.mark.skipif(
    torch.__version__ < "2.4", reason="torch 2.3 traces no Function with a setup_context"
)
