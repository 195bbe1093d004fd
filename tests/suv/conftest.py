from copy import deepcopy

import pytest
from pet_scan import put


@pytest.fixture
def headers(patient):
    """headers(**attributes): the PET headers of a study with attributes changed; None removes one."""

    def change(**attributes):
        headers = [deepcopy(d) for d in patient().pet]
        for header in headers:
            for name, value in attributes.items():
                put(header, name, value)
        return headers

    return change
