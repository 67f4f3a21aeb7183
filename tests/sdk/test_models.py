"""The model list, and single models whose ids hold what clients encode in paths."""

import openai
import pytest


def test_list(client):
    ids = {model.id for model in client.models.list()}
    assert {"tiny", "lib/tiny:v1"} <= ids
    assert ids & {"llama", "llama:latest"}


@pytest.mark.parametrize("name", ["tiny", "lib/tiny:v1"])
def test_retrieve(client, name):
    model = client.models.retrieve(name)
    assert (model.id, model.object) == (name, "model")
    assert isinstance(model.created, int)


@pytest.mark.parametrize("name", ["llama", "llama:latest"])
def test_retrieve_without_and_with_the_tag(client, name):
    assert client.models.retrieve(name).id in {"llama", "llama:latest"}


@pytest.mark.parametrize("name", ["nope", "lib/nope:v1", "tiny:latest2"])
def test_retrieve_unknown(client, name):
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve(name)
    assert caught.value.code == "model_not_found"
    assert name in caught.value.message
