"""scores.csv and nodules.csv: what is written is read back; a scan whose nodules are gone is not whole."""

from lungct.evaluation.nodules import NoduleScore
from lungct.evaluation.scores import ScanScore
from lungct.evaluation.tables import Result, read_results, write_results


def result(scan: str, nodules: int) -> Result:
    rows = [NoduleScore(scan, number, 3, 12, 2, 2, 0.5) for number in range(nodules)]
    return Result(ScanScore(scan, scan, 5, 4.5, nodules=nodules, fingerprint="0"), rows)


def test_both_tables_are_read_back_by_scan(tmp_path):
    results = {"A": result("A", 2), "B": result("B", 0), "C": result("C", 1)}
    write_results(tmp_path, results.values(), with_empty=False)
    assert read_results(tmp_path) == results
    assert all(one.is_whole for one in read_results(tmp_path).values())


def test_nodules_that_are_gone_or_unreadable_leave_their_scans_not_whole(tmp_path, capsys):
    write_results(tmp_path, [result("A", 2), result("B", 0)], with_empty=False)
    path = tmp_path / "nodules.csv"
    path.write_text(path.read_text().replace(",", ";"))
    assert {scan: one.is_whole for scan, one in read_results(tmp_path).items()} == {"A": False, "B": True}
    assert capsys.readouterr().out == f"{path}: columns are not those of this version; it is made again\n"
    path.unlink()
    assert not read_results(tmp_path)["A"].is_whole
    assert capsys.readouterr().out == ""


def test_without_a_nodule_the_table_is_written_where_it_is_asked_for_or_there(tmp_path):
    path = tmp_path / "nodules.csv"
    write_results(tmp_path, [result("A", 0)], with_empty=False)
    assert not path.exists()
    write_results(tmp_path, [result("A", 0)], with_empty=True)
    header = path.read_text()
    write_results(tmp_path, [result("A", 1)], with_empty=False)
    write_results(tmp_path, [], with_empty=False)
    assert path.read_text() == header
