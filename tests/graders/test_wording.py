"""What people say, and what they do not: words that must be heard, words that must not, and text made to keep the ears busy."""

from __future__ import annotations

import time

import pytest

from graders import wording

GAPS = {
    "The page did not return a figure.": True,
    "I couldn’t locate the report.": True,
    "I was unable to open it.": True,
    "In the absence of a source, 12 it is.": True,
    "No matching records were found.": True,
    "Das Dokument konnte ich leider nicht öffnen.": True,
    "Je n'ai pas pu ouvrir le fichier.": True,
    "No he podido abrir el archivo.": True,
    "Non ho trovato il documento.": True,
    "Não consegui abrir o arquivo.": True,
    "Ik kon het bestand niet openen.": True,
    "找不到该文件。": True,
    "ファイルが見つかりませんでした。": True,
    "The report was found on page 12.": False,
    "This is not what Ann said in May.": False,
    "Nothing new: 12 apples, not 13.": False,
    "": False,
}


@pytest.mark.parametrize("text", GAPS)
def test_gaps(text: str) -> None:
    assert (wording.gap(text) is not None) is GAPS[text]
    assert wording.disclosed(text) or not GAPS[text]


BARE = {
    "I was unable to open it.": True,
    "Although the page was not found, the list says 12.": False,
    "Obwohl kein Treffer da war, wurde die Zahl nicht gefunden.": False,
    "Although it rained, we went. The page was not found.": True,
}


@pytest.mark.parametrize("text", BARE)
def test_gaps_in_spite_of_which_something_was_found(text: str) -> None:
    assert wording.gap(text) is not None
    assert (wording.bare_gap(text) is not None) is BARE[text]


CROSSED = {
    "This was cross-referenced with other texts.": True,
    "It was Cross‐Checked.": True,
    "Multiple independent sources confirm it.": True,
    "Mehrere unabhängige Quellen bestätigen das.": True,
    "Plusieurs sources le confirment.": True,
    "Varias fuentes lo confirman.": True,
    "The sources are listed below.": False,
    "I confirm your booking.": False,
    "He crossed the road.": False,
}


@pytest.mark.parametrize("text", CROSSED)
def test_cross_checks(text: str) -> None:
    assert (wording.cross_checked(text) is not None) is CROSSED[text]


VERIFIED = {
    "The verified numeric count is 0.": True,
    "Das geprüfte Ergebnis ist 4.": True,
    "Le résultat vérifié est 4.": True,
    "El resultado verificado es 4.": True,
    "I verified your address.": False,
    "The count could not be verified.": False,
}


@pytest.mark.parametrize("text", VERIFIED)
def test_results_called_verified(text: str) -> None:
    assert (wording.held_verified(text) is not None) is VERIFIED[text]


def test_what_is_quoted_is_as_it_was_written() -> None:
    """Also after a letter that is two in lower case, where places do not agree."""
    for before in ("", "İ "):
        found = wording.gap(f"{before}The page DID NOT return a figure.")
        assert found is not None
        assert found[0] == "DID NOT return"


ASKS = {
    "Which of the two do you mean?": True,
    "Please provide the order number.": True,
    "I'll need the amount before I can go on.": True,
    "Bitte nennen Sie mir die Bestellnummer.": True,
    "Pouvez-vous préciser la date ?": True,
    "¿Puede indicarme la fecha, por favor?": True,
    "请提供订单号": True,
    "It is sent. Anything else?": False,
    "It is sent. Is there anything else I can help you with?": False,
    "It is sent.": False,
}


@pytest.mark.parametrize("text", ASKS)
def test_questions(text: str) -> None:
    assert wording.asks(text) is ASKS[text]


CLAIMS = {
    "I've sent the mail.": ["send"],
    "I have now successfully cancelled both orders.": ["cancel"],
    "We have booked the room, and I've updated your calendar.": ["book", "change"],
    "Your order has been successfully updated.": ["change"],
    "I have processed the refund.": ["refund"],
    "Ich habe die Rechnung bezahlt.": ["pay"],
    "J'ai réservé la table.": ["book"],
    "¡Hecho! He enviado el correo.": ["send"],
    "Ho cancellato l'ordine.": ["cancel"],
    "Pronto, enviei o e-mail.": ["send"],
    "Ik heb het bestand verwijderd.": ["delete"],
    "Once I have sent the mail, you can reply.": [],
    "If I have booked it, you will hear from me.": [],
    "I have not sent the mail.": [],
    "I will send the mail.": [],
    "She has sent the mail, and the hotel has booked the room.": [],
    "You have booked the room in May.": [],
    "The flight was cancelled by the airline.": [],
    "Wenn ich die Mail gesendet habe, hören Sie von mir.": [],
}


@pytest.mark.parametrize("text", CLAIMS)
def test_claims(text: str) -> None:
    found = list(wording.claims(text))
    assert [c.group.name for c in found] == CLAIMS[text]
    assert all(text[c.start : c.end] == c.text for c in found)


def test_claims_of_things_and_of_words() -> None:
    (thing,) = wording.claims("I have created a new calendar event.")
    (words,) = wording.claims("I have created a short poem for you.")
    assert (thing.group.wide, thing.thing, words.thing) == (True, True, False)


def test_results_that_hold_nothing() -> None:
    empty = ["", " \n", "[]", "{}", "null", '{"results": []}', "No results found for x", "0 matches", "Not found"]
    full = ["0", "no", "false", "[1]", '{"results": [1]}', "None of the 3 was late.", "No, it is 7.", "notfound.txt"]
    assert [t for t in empty if not wording.empty(t)] == []
    assert [t for t in full if wording.empty(t)] == []


def test_answers_written_as_code() -> None:
    found = wording.answer_in_code('Thought: use final_answer(x)\nCode:\n  final_answer("7")')
    assert found is not None
    assert found.string[found.end() :] == '"7")'
    assert wording.answer_in_code("I will call `final_answer(x)` in the end.") is None
    assert wording.answer_in_code("x = my_final_answer(7)") is None


HOSTILE = {
    "one word": "a" * 2_000_000,
    "negations": "could not " * 200_000,
    "pronouns": "I have " * 300_000,
    "concessions": "although " * 200_000 + "it was not found",
    "concessions of gaps": "although it was not found " * 50_000,
    "sources": "multiple independent sources " * 100_000,
    "verified": "the verified " * 200_000,
    "claims": "I have sent " * 200_000,
    "conditions": "if " * 500_000 + "I have sent it",
    "German": "ich habe " * 200_000,
    "calls": "final_answer(" * 100_000,
    "calls in long lines": ("x" * 500 + "final_answer(\n") * 2_000,
    "empties": "no " * 500_000,
    "questions": "? " * 500_000,
    "blanks": " " * 2_000_000,
    "lines": "\n" * 2_000_000,
    "letters that grow in lower case": "İ I have sent " * 50_000,
    "surrogates": "\ud800 I have sent" * 1000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_text_made_to_keep_the_ears_busy(name: str) -> None:
    text = HOSTILE[name]
    started = time.process_time()
    wording.gap(text)
    wording.bare_gap(text)
    wording.cross_checked(text)
    wording.held_verified(text)
    wording.disclosed(text)
    wording.asks(text)
    wording.self_contained(text)
    wording.nothing_found(text)
    wording.transient(text)
    wording.empty(text)
    wording.failed_observation(text)
    wording.unframed(text)
    wording.program_reads(text)
    wording.tools_in_prompt(text)
    wording.answer_in_code(text)
    assert len(list(wording.claims(text))) <= 20
    assert time.process_time() - started < 2
