def test_one_command_brings_a_bed_up_runs_and_takes_it_down(make_bed: Callable[[int, str], Bed]) -> None:
    name = f"t{os.getpid()}once"
    words = [sys.executable, "-m", "testbed", "--name", name, "--hosts", "2", "--rate", "1gbit", "once", "hostname"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False, env=environ())
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split()) == ["host0", "host1"]
    assert not [space for space in network.existing() if space.startswith(name)]
