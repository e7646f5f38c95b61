"""Long work says how far it is, where there is a terminal and where there is none."""

from tcja_gen import progress


def test_a_log_file_gets_a_line_every_so_often_and_no_bar(capsys, monkeypatch):
    monkeypatch.setattr(progress, "FIRST", 0)
    assert [*progress.track(range(1200), "reading")] == [*range(1200)]
    assert capsys.readouterr().err == "reading: 0 of 1,200\n"  # the next one is due a minute later
    monkeypatch.setattr(progress, "EVERY", 0)
    assert [*progress.track("abc", "reading")] == [*"abc"]
    assert capsys.readouterr().err.splitlines()[2] == "reading: 2 of 3, 0:00 left"


def test_short_work_and_work_without_a_title_say_nothing(capsys):
    assert [*progress.track("abc", "reading"), *progress.track("abc", None)] == [*"abcabc"]
    assert not capsys.readouterr().err
