"""Words that say nothing of what a text is about, by language: no key phrase holds one.

Lower case. Languages without a list are told by how frequent a word is in the vocabulary.
"""

from collections.abc import Mapping

STOP_WORDS: Mapping[str, frozenset[str]] = {
    language: frozenset(words.split())
    for language, words in {
        "en": """
            a about above across actually after afterwards again against ago all almost alone along
            already also although always am among an and another any anybody anyone anything anyway
            are aren't around as ask asked at away back be became because become becomes been before
            began behind being below best better between both bring brought but by came can can't
            cannot come comes coming could couldn't day days did didn't do does doesn't doing don't
            done down during each either else enough especially even ever every everybody everyone
            everything far felt few first for former forward found from further gave get gets
            getting give given gives go goes going gone good got great had hadn't has hasn't have
            haven't having he he'd he'll he's her here hers herself him himself his how however i
            i'd i'll i'm i've if in including indeed inside instead into is isn't it it's its itself
            just keep kept know known last later least less let let's like likely little long look
            looked looking lot made make makes making many may maybe me mean meanwhile might mine
            more moreover most mostly mr mrs ms much must mustn't my myself near nearly need needs
            neither never next no nobody none nor not nothing now of off often oh ok on once one
            ones only onto or other others otherwise our ours ourselves out outside over own part
            people perhaps put quite rather re really reported said same saw say saying says second
            see seen seem seemed seems several shall she she'd she'll she's should shouldn't since
            so some somebody someone something sometimes somewhere soon still such take taken takes
            taking tell than thank that that's the their theirs them themselves then there there's
            therefore these they they'd they'll they're they've thing things think this those though
            thought three through throughout thus time times to today together told tomorrow too
            took toward towards tried try trying two under until up upon us use used uses using
            usually very via want wanted wants was wasn't way we we'd we'll we're we've well went
            were weren't what what's whatever when where whether which while who who's whole whom
            whose why will with within without won't would wouldn't year years yes yesterday yet you
            you'd you'll you're you've your yours yourself""",
        "de": """
            ab aber alle allem allen aller alles als also am an andere anderen auch auf aus bei beim
            bereits bin bis bist da dabei damit dann das dass dazu dem den denn der des die dies
            diese diesem diesen dieser dieses doch dort du durch ein eine einem einen einer eines er
            es etwa etwas für gegen gibt hat hatte hatten habe haben hier hinter ich ihm ihn ihnen
            ihr ihre ihrem ihren ihrer im immer in ins ist ja jede jeder jetzt kann kein keine
            können laut mehr mein meine mich mir mit müssen muss nach nicht nichts noch nun nur ob
            oder ohne sagte schon sehr sei sein seine seinem seinen seiner seit selbst sich sie sind
            so sollen sollte sondern sowie über um und uns unser unter viel vom von vor war waren
            was weil weiter welche wenn wer werden wie wieder will wir wird wo wurde wurden zu zum
            zur zwei zwischen""",
        "fr": """
            à afin ai ainsi alors après au aucun aussi autre autres aux avant avec avoir car ce ceci
            cela celle celui ces cet cette ceux chaque chez comme contre d dans de depuis des deux
            doit donc dont du elle elles en encore entre est et étaient était été être eu eux fait
            faire il ils j je jusqu l la le les leur leurs lors lui m ma mais même mes moins mon n
            ne ni non nos notre nous on ont ou où par parce pas pendant peu peut plus pour pourquoi
            qu quand que quel quelle qui quoi s sa sans se selon sera ses si son sont sous sur ta
            tous tout toute toutes très tu un une vers vos votre vous y""",
        "es": """
            a al algo alguna algunos ante antes así aun aunque bajo bien cada casi como con contra
            cual cuando de del desde después dijo donde dos durante e el él ella ellas ellos en
            entre era eran es esa ese eso esta está están estas este esto estos fue fueron ha había
            han hasta hay hace la las le les lo los más me mi mientras muy nada ni no nos nosotros o
            otra otras otro otros para pero poco por porque pues que qué quien se sea según ser si
            sí sido sin sobre son su sus también tan tanto te tiene tienen todo todos tras tu un una
            uno unos y ya yo""",
        "it": """
            a ad ai al alla alle allo anche ancora avere aveva c che chi ci come con contro cosa così
            cui da dai dal dalla dalle dei del della delle dello di dopo dove due e è ed era erano
            essere fa fino fra gli già ha hanno ho i il in io l la le lei lo loro lui ma mentre mi
            molto ne negli nei nel nella nelle nello noi non nostro o ogni per perché più poi prima
            quale quando quanto quella quelle quelli quello questa queste questi questo se sei senza
            si sia sono sopra sta stata stato su sua sue sui sul sulla suo suoi tra tu tutti tutto un
            una uno vi""",
        "pt": """
            a à ao aos as às até com como da das de dela dele depois do dos e é ela elas ele eles em
            entre era eram essa esse esta está estão este eu foi foram há isso já lhe mais mas me
            mesmo meu minha muito na não nas nem no nos num numa o os ou para pela pelas pelo pelos
            por porque qual quando que quem são se seja sem ser seu seus sim só sobre sua suas
            também te tem têm tinha um uma você""",
        "nl": """
            aan al alle als altijd andere ben bij daar dan dat de der deze die dit doch doen door dus
            een eens en er ge geen haar had heb hebben heeft hem het hier hij hoe hun iemand iets ik
            in is ja je kan kon kunnen maar me meer men met mij mijn moet na naar niet niets nog nu
            of om omdat ons ook op over te tegen toch toen tot u uit uw van veel voor want waren was
            wat we wel werd wezen wie wij wil worden zal ze zei zelf zich zij zijn zo zonder zou""",
        "zh": """
            一 一个 一些 一样 一种 上 下 不 不是 不会 与 且 两 个 中 为 为了 之 乃 么 也 了 于 些 人 什么
            从 他 他们 以 以及 们 会 但 但是 你 你们 其 其中 再 几 出 到 刚 则 别 即 却 又 及 发 只 可
            可以 各 同 同时 后 向 吗 否 吧 呢 和 因 因为 在 地 多 大 她 好 如 如果 它 家 对 对于 小 就 就是
            已 已经 年 并 很 得 心 您 想 我 我们 或 所 所以 所有 才 把 报道 据 日 时 是 是否 曾 更 最 月
            有 有的 来 次 此 每 比 没 没有 点 然后 由 由于 的 目前 着 着的 看 让 记者 说 说的 请 该 谁 跟
            过 还 还是 这 这个 这样 这种 进行 那 那么 都 里 需 非常 表示 认为 通过 自己 根据 今天 以后
            之后 之前 以上 以下 左右 方面 时候 问题""",
    }.items()
}
