"""TensorBoard event files where TensorFlow is installed too."""

import subprocess
import sys
from pathlib import Path


def test_event_files_are_read_without_tensorflow(libraries: None, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from trainer.scripts.metrics import EventFiles\n"
        "files = EventFiles(Path(sys.argv[1]))\n"
        "from tensorboard.compat.proto.event_pb2 import Event\nfrom tensorboard.compat.proto.summary_pb2 import Summary\n"
        "from tensorboard.summary.writer.event_file_writer import EventFileWriter\n"
        "writer = EventFileWriter(sys.argv[1])\n"
        "writer.add_event(Event(step=1, summary=Summary(value=[Summary.Value(tag='loss', simple_value=0.5)])))\nwriter.close()\n"
        "print([(one.step, dict(one.metrics)) for one in files.reports()], 'tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=300)
    assert done.stdout == "[(1, {'loss': 0.5})] False\n", done.stderr
