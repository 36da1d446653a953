"""A pool of models with fake engines. `a` is the default model."""

from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace

import httpx
import pytest
from harness import FakeEngine, server_config

from chatterbox.config import TTSConfig, configs_of
from chatterbox.dialects.registry import DIALECTS
from chatterbox.server import model_loader
from chatterbox.server.app import create_app
from chatterbox.server.model_pool import ModelPool


class Engine(FakeEngine):
    """A fake engine made by the pool, which appends it to `made`."""

    def __init__(self, made, setup, config, admission=None, since=None) -> None:
        super().__init__(capacity=4, queue_capacity=8)
        self.config, self.state = config, "loading"
        self.info = replace(self.info, name=config.model)
        self.admission = admission or self.admission
        self.closed = False
        made.append(self)
        setup(self)

    def close(self, timeout_s: float = 5.0) -> None:
        self.closed = True
        for pool in (self.pool, self.texts):
            pool.shutdown(wait=False, cancel_futures=True)

    def unload(self) -> None:
        assert self.open_streams == 0, "somebody is still listening"
        self.close()
        self.state = "unloaded"


@contextmanager
def pool_of(models="a,b,c", setup=lambda engine: None, **limits):
    """Yield a pool that is not started. `setup` is called with each engine that the pool makes;
    `made_by` replaces it."""
    made: list[Engine] = []
    setups = [setup]
    config = TTSConfig(_env_file=None)
    limits = server_config(models=models, **limits)

    def make(*given, **more):
        return Engine(made, setups[-1], *given, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_loader, "TTSEngine", make)
        patch.setattr(model_loader, "files_bytes", lambda config: 0)
        patch.setattr(model_loader, "freeze_objects", lambda: None)
        pool = ModelPool(configs_of(config, limits.models), limits)
        pool.made, pool.limits, pool.made_by = made, limits, setups.append
        try:
            yield pool
        finally:
            for engine in made:
                engine.close()


@asynccontextmanager
async def serving_models(models="a,b,c", setup=lambda engine: None, **limits):
    """Start the pool and yield a client of an application around it."""
    with pool_of(models, setup, **limits) as pool:
        await pool.start()
        app = create_app(pool, pool.limits, DIALECTS)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            client.pool, client.app = pool, app
            yield client


def spoken_by(pool) -> list[str]:
    """Return the model's name for each utterance."""
    return [engine.info.name for engine in pool.made for _ in engine.requests]
