"""The machine: processor, cores, memory, disk, compiler, and which kernels run on it."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import psutil

from slmkit.catalog.checks import NOTE, OK, PROBLEM, Check
from slmkit.catalog.machine import gb, total_bytes
from slmkit.engine.memory import free_bytes
from slmkit.ops.choose import HOW_TO_BUILD, Ops, available, choose, cores

CPUINFO = Path("/proc/cpuinfo")
# What each kernel set needs of the processor; see CMakeLists.txt.
NEEDS = {
    "avx2": ("avx2", "fma", "f16c"),
    "avx512": ("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni"),
}
# Features worth knowing of, as Linux spells them.
_TELLING = (
    *NEEDS["avx2"],
    *NEEDS["avx512"],
    "avx512_bf16",
    "avx_vnni",
    "amx_int8",
    "asimddp",
    "i8mm",
)
_X86 = ("x86_64", "amd64")
_SMALLEST = 3_000_000_000  # bytes: Phi-3.5-mini in 4 bits and 1,800 tokens of cache
_ROOM = 12_000_000_000  # bytes: Phi-3.5-mini as published, and packed


def processor(cpuinfo: Path = CPUINFO) -> tuple[str, tuple[str, ...] | None]:
    """The processor's name and those of its features that kernels use; None where the system does not tell them."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return _processor_elsewhere()
    words = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = words.get("flags", words.get("Features", "")).split()
    return words.get("model name", platform.machine()), tuple(f for f in _TELLING if f in flags)


def _processor_elsewhere() -> tuple[str, tuple[str, ...] | None]:
    if sys.platform != "darwin":
        return platform.processor() or platform.machine(), None
    told = [_sysctl(key) for key in ("machdep.cpu.brand_string", "machdep.cpu.features", "machdep.cpu.leaf7_features")]
    flags = f"{told[1]} {told[2]}".lower().split()
    return told[0] or platform.machine(), tuple(f for f in _TELLING if f in flags)


def _sysctl(key: str) -> str:
    try:
        return subprocess.run(["sysctl", "-n", key], capture_output=True, text=True, timeout=5).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def check_processor() -> Check:
    name, features = processor()
    known = "its features are not known here" if features is None else ", ".join(features) or "nothing for kernels"
    facts = {"model": name, "features": None if features is None else list(features)}
    return Check("processor", OK, f"{name} ({known})", facts=facts)


def check_cores() -> Check:
    """Cores that this process may use, against those that there are."""
    usable, physical = cores(), psutil.cpu_count(logical=False) or os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    facts = {"usable": usable, "physical": physical, "logical": os.cpu_count(), "allowed": allowed}
    found = f"{usable} to compute with, of {physical} in the machine"
    if usable < physical:
        advice = "the affinity or the container's quota keeps this process from the others; raise it if they are idle"
        return Check("cores", NOTE, found, advice, facts)
    return Check("cores", OK, found, facts=facts)


def check_kernels() -> Check:
    """The kernel set that models run on, and why it is no better one."""
    names, (_, features) = available(), processor()
    ops: Ops = choose()
    facts = {"chosen": ops.NAME, "available": names}
    if ops.NAME == "reference":
        return Check("kernels", PROBLEM, "NumPy alone: right, and far slower", ops.hint or HOW_TO_BUILD, facts)
    if platform.machine().lower() not in _X86:
        advice = "there are kernels for AVX2 and AVX-512 alone so far; nothing is to be done here"
        return Check("kernels", NOTE, f"{ops.description}, for any processor", advice, facts)
    better = next((name for name in NEEDS if name not in names), None)
    if better is None or features is None:
        return Check("kernels", OK, ops.description, facts=facts)
    if lacks := [feature for feature in NEEDS[better] if feature not in features]:
        found = f"{ops.description}; {better} needs {', '.join(lacks)}, which this processor does not show"
        return Check("kernels", OK if ops.NAME == "avx2" else NOTE, found, facts=facts)
    advice = f"the compiler that built slmkit did not know {better}; build it again with a newer one (GCC 8, Clang 7)"
    return Check("kernels", NOTE, f"{ops.description}, though the processor has {better}", advice, facts)


def check_memory() -> Check:
    """Free and total memory, a container's limit considered."""
    free, total = free_bytes(), total_bytes()
    machine = psutil.virtual_memory().total
    facts = {"free_bytes": free, "total_bytes": total, "machine_bytes": machine}
    found = f"{gb(free)} free of {gb(total)}"
    if total < machine:
        found += f" that the container may use ({gb(machine)} in the machine)"
    if free < _SMALLEST:
        advice = f"the smallest published model needs about {gb(_SMALLEST)}; close other programs, or stay with tiny"
        return Check("memory", NOTE, found, advice, facts)
    return Check("memory", OK, found, facts=facts)


def check_disk(name: str, folder: Path, setting: str) -> Check:
    """Room and rights where models are kept.   setting: the variable that moves the folder."""
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    try:
        free = shutil.disk_usage(there).free
    except OSError as error:
        why = f"{folder} cannot be looked at ({error.strerror})"
        return Check(name, PROBLEM, why, f"correct its rights, or set {setting} to another folder")
    facts = {"folder": str(folder), "exists": there == folder, "free_bytes": free}
    found = f"{folder}: {gb(free)} free"
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return Check(name, PROBLEM, f"{found}, not writable", f"set {setting} to a folder that you may write to", facts)
    if free < _ROOM:
        advice = f"a model of 3.8 B takes up to {gb(_ROOM)}; make room, or set {setting} to a folder on another disk"
        return Check(name, NOTE, found, advice, facts)
    return Check(name, OK, found, facts=facts)


def check_compiler() -> Check:
    """A C++ compiler, which only building the kernels needs."""
    names = [os.environ.get("CXX", ""), "c++", "g++", "clang++", "cl"]
    path = next((found for name in names if name and (found := shutil.which(name))), None)
    if path:
        return Check("compiler", OK, path, facts={"path": path})
    found, facts = "no C++ compiler", {"path": None}
    if available() == ["reference"]:
        return Check("compiler", PROBLEM, found, HOW_TO_BUILD, facts)
    return Check("compiler", OK, f"{found}; none is needed, as the kernels are built", facts=facts)
