"""reviews.csv as the page writes it, and as spreadsheets leave it."""

import pytest

from lungct import LungError
from lungct.masks.reviews import ACCEPT, NONE, REJECT, earlier_reviews, print_reviews, read_reviews, status_of

HEAD = "scan,patient_id,fingerprint,weights,verdict,comment\n"


def write(tmp_path, *lines: str, head: str = HEAD, encoding: str = "utf-8"):
    path = tmp_path / "reviews.csv"
    path.write_bytes((head + "".join(f"{line}\n" for line in lines)).encode(encoding))
    return path


def test_the_table_of_the_page_is_read(tmp_path):
    path = write(
        tmp_path, '"a","p","f1","w","accept","fine, ""really"""', '"b","p","f2","w","",""', encoding="utf-8-sig"
    )
    reviews = read_reviews(path)
    assert reviews["a", "f1"].verdict == ACCEPT
    assert reviews["a", "f1"].comment == 'fine, "really"'
    assert reviews["b", "f2"].verdict == NONE


def test_a_spreadsheet_may_change_delimiter_letters_and_order_of_the_columns(tmp_path):
    path = write(
        tmp_path,
        "Reject ;Lunge über Magen;a;p;f1;w;x",
        head="verdict;comment;scan;patient_id;fingerprint;weights;mine\n",
        encoding="cp1252",
    )
    review = read_reviews(path)["a", "f1"]
    assert (review.verdict, review.comment) == (REJECT, "Lunge über Magen")


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["a,p,f1,w,good,"], "a: verdict 'good'; it is accept, reject or empty"),
        (["a,p,f1,w,accept,", "a,p,f1,w,reject,"], "a is there twice, with different verdicts"),
        (["a,p,f1"], "a: the row is cut off"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path, lines, words):
    with pytest.raises(LungError, match=words):
        read_reviews(write(tmp_path, *lines))


def test_a_missing_file_or_column_is_named(tmp_path):
    with pytest.raises(LungError, match=r"no .*reviews.csv; review the scans in report.html"):
        read_reviews(tmp_path / "reviews.csv")
    with pytest.raises(LungError, match="no column fingerprint"):
        read_reviews(write(tmp_path, head="scan,patient_id,weights,verdict,comment\n"))
    with pytest.raises(LungError, match="no column scan"):
        read_reviews(write(tmp_path, head=""))


def test_none_kept_beside_the_predictions_are_no_error(tmp_path):
    assert earlier_reviews(tmp_path) == {}
    write(tmp_path, "a,p,f1,w,accept,")
    assert list(earlier_reviews(tmp_path)) == [("a", "f1")]


def test_a_review_counts_for_the_prediction_that_was_seen_alone(tmp_path):
    reviews = read_reviews(write(tmp_path, "a,p,f1,w,accept,", "b,p,f2,w,reject,gas", "c,p,f3,w,,hm"))
    assert status_of(reviews, "a", "f1") == (ACCEPT, "accepted")
    assert status_of(reviews, "a", "f9") == (NONE, "predicted again since its review")
    assert status_of(reviews, "b", "f2") == (REJECT, "rejected: gas")
    assert status_of(reviews, "c", "f3") == (NONE, "not reviewed")
    assert status_of(reviews, "d", "f1") == (NONE, "not reviewed")


def test_rejected_and_outdated_scans_are_listed_and_all_are_counted(tmp_path, capsys):
    reviews = read_reviews(
        write(tmp_path, "a,p,f1,w,accept,", "b,p,f2,w,reject,gas", "c,p,f3,w,accept,", "z,p,f4,w,reject,")
    )
    print_reviews(reviews, [("a", "f1"), ("b", "f2"), ("c", "new"), ("d", "f5")])
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        ["b", "rejected: gas"],
        ["c", "predicted again since its review"],
        ["z", "reviewed, but there is no prediction of it here"],
        ["1", "accepted, 1 rejected, 2 without a verdict"],
    ]
