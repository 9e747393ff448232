"""A whole worker process with a toy trainer: `python toy_worker.py HOME [TOY OPTIONS]`, with the signals of `thaw worker`."""

import sys
from pathlib import Path

from service.cli.processes import install_signal_handlers
from service.settings import Settings
from service.store import open_store
from service.worker.devices import SlotLayout, lay_out
from service.worker.supervisor import Supervisor

if __name__ == "__main__":
    settings = Settings(home=Path(sys.argv[1]), heartbeat_seconds=0.2, lease_seconds=2.0)
    toy = (sys.executable, str(Path(__file__).with_name("toy_trainer.py")), *sys.argv[2:])
    worker = Supervisor(open_store(settings.database_url), settings, SlotLayout(lay_out((), 1)), toy)
    install_signal_handlers(worker)
    worker.run()
