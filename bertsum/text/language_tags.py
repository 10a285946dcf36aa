"""Tags of languages: the base of one, in two letters where ISO 639-1 has them.

Corpora write the same language as `zh-CN`, `zho` or `chi`; rules and models know it as `zh`.
"""

import re

# A line is a code of two letters and those of three that stand for the same language: ISO 639-2, of
# which some have two, and of ISO 639-3 the standard variety that texts are tagged with (cmn, arb).
# Also no language that the detector names by three letters (als, which it takes for Alemannic).
_CODES = """
aa aar|ab abk|ae ave|af afr|ak aka|am amh|an arg|ar ara arb|as asm|av ava|ay aym|az aze azj
ba bak|be bel|bg bul|bi bis|bm bam|bn ben|bo bod tib|br bre|bs bos
ca cat|ce che|ch cha|co cos|cr cre|cs ces cze|cu chu|cv chv|cy cym wel
da dan|de deu ger|dv div|dz dzo
ee ewe|el ell gre|en eng|eo epo|es spa|et est ekk|eu eus baq
fa fas per pes|ff ful|fi fin|fj fij|fo fao|fr fra fre|fy fry
ga gle|gd gla|gl glg|gn grn|gu guj|gv glv
ha hau|he heb|hi hin|ho hmo|hr hrv|ht hat|hu hun|hy hye arm|hz her
ia ina|id ind|ie ile|ig ibo|ii iii|ik ipk|io ido|is isl ice|it ita|iu iku
ja jpn|jv jav
ka kat geo|kg kon|ki kik|kj kua|kk kaz|kl kal|km khm|kn kan|ko kor|kr kau|ks kas|ku kur|kv kom
kw cor|ky kir
la lat|lb ltz|lg lug|li lim|ln lin|lo lao|lt lit|lu lub|lv lav lvs
mg mlg plt|mh mah|mi mri mao|mk mkd mac|ml mal|mn mon khk|mr mar|ms msa may zsm|mt mlt|my mya bur
na nau|nb nob|nd nde|ne nep npi|ng ndo|nl nld dut|nn nno|no nor|nr nbl|nv nav|ny nya
oc oci|oj oji|om orm|or ori ory|os oss
pa pan|pi pli|pl pol|ps pus|pt por
qu que
rm roh|rn run|ro ron rum|ru rus|rw kin
sa san|sc srd|sd snd|se sme|sg sag|si sin|sk slk slo|sl slv|sm smo|sn sna|so som|sq sqi alb|sr srp
ss ssw|st sot|su sun|sv swe|sw swa swh
ta tam|te tel|tg tgk|th tha|ti tir|tk tuk|tl tgl|tn tsn|to ton|tr tur|ts tso|tt tat|tw twi|ty tah
ug uig|uk ukr|ur urd|uz uzb uzn
ve ven|vi vie|vo vol
wa wln|wo wol
xh xho
yi yid ydd|yo yor
za zha|zh zho chi cmn|zu zul
"""


_SHORT_CODES: dict[str, str] = {}  # by each code of three letters
for _entry in _CODES.replace("\n", "|").split("|"):
    _short, *_long_codes = _entry.split() or [""]
    _SHORT_CODES |= dict.fromkeys(_long_codes, _short)
_CODE = re.compile("[a-z]{2,3}")
_NO_LANGUAGE = frozenset({"und", "mul"})  # BCP 47: undetermined, several


def base_language(tag: str | None) -> str:
    """The language of a tag: zh of zh-CN, zh_Hans, ZH, zho and chi. Empty where it names none.

    `English` is no code, and names none: taken for one, it would be a language that nobody knows.
    """
    language = (tag or "").replace("_", "-").partition("-")[0].strip().lower()
    if language in _NO_LANGUAGE or not _CODE.fullmatch(language):
        return ""
    return _SHORT_CODES.get(language, language)
