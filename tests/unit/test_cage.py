"""The filter of system calls as the kernel would run it, of architectures that are not at hand."""

import struct

import pytest

from entrypoint.compare import cage

MARKS = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
# Numbers as the kernel's headers have them, by name.
COMPUTE = {
    "x86_64": {"read": 0, "write": 1, "mmap": 9, "futex": 202, "exit_group": 231},
    "aarch64": {"read": 63, "write": 64, "mmap": 222, "futex": 98, "exit_group": 94},
}
LOAD = {
    "x86_64": {"openat": 257, "newfstatat": 262, "getdents64": 217, "prctl": 157},
    "aarch64": {"openat": 56, "newfstatat": 79, "getdents64": 61, "prctl": 167},
}
NEVER = {
    "x86_64": {"clone": 56, "execve": 59, "socket": 41, "kill": 62, "unlink": 87, "ptrace": 101},
    "aarch64": {"clone": 220, "execve": 221, "socket": 198, "kill": 129, "unlinkat": 35},
}


def verdict(code: list[tuple[int, int, int, int]], mark: int, number: int) -> int:
    """Run a filter over a system call's number and the mark of its architecture."""
    data = struct.pack("II", number, mark)
    value, place = 0, 0
    while True:
        operation, yes, no, operand = code[place]
        place += 1
        if operation == cage.RETURN:
            return operand
        if operation == cage.LOAD:
            (value,) = struct.unpack_from("I", data, operand)
        else:
            assert operation == cage.EQUAL
            place += yes if value == operand else no


@pytest.mark.parametrize("architecture", MARKS)
def test_a_program_may_compute_and_only_what_loads_modules_opens_files(architecture: str) -> None:
    mark, abi = MARKS[architecture], cage.ABIS[architecture]
    program = cage.instructions(abi.mark, abi.compute)
    loading = cage.instructions(abi.mark, (*abi.compute, *abi.load))
    for name, number in COMPUTE[architecture].items():
        assert verdict(program, mark, number) == verdict(loading, mark, number) == cage.ALLOW, name
    for name, number in LOAD[architecture].items():
        assert verdict(program, mark, number) == cage.REFUSE, name
        assert verdict(loading, mark, number) == cage.ALLOW, name
    for name, number in NEVER[architecture].items():
        assert verdict(program, mark, number) == verdict(loading, mark, number) == cage.REFUSE, name


@pytest.mark.parametrize("architecture", MARKS)
def test_calls_by_the_numbers_of_another_architecture_end_the_program(architecture: str) -> None:
    (other,) = set(MARKS.values()) - {MARKS[architecture]}
    abi = cage.ABIS[architecture]
    code = cage.instructions(abi.mark, (*abi.compute, *abi.load))
    for number in range(512):
        assert verdict(code, other, number) == cage.KILL


def test_every_architecture_may_do_the_same_to_compute() -> None:
    # x86-64 has the call `time` of its own.
    assert len(cage.ABIS["x86_64"].compute) == len(cage.ABIS["aarch64"].compute) + 1
