"""The words of the vocabulary: plain English, so that a stream on a terminal reads like text."""

from typing import Final

WORDS: Final[str] = """
the of and to in a is that for it as was with be by on not he his but at are this have from or
had an they which one you were all her she there would their we him been has when who will no more
if out so up said what its about than into them can only other time new some could these two may
first then do any like my now over such our man me even most made after also did many off before
must well back through years much where your way down should because long each just state those
people too mr how little good world make very year still see own work men day get here old between
both life being under three never know same last another while us might great go come since against
right came take used himself few house use place during without again home around small however
found thought went say part once general high upon school every does got united left number course
war until always away something fact water though less public put think almost hand enough far took
head yet government system set better told nothing night end why called eyes find going look asked
later point knew next program city business give group toward young days let room word open side
light voice several order national level second big kind power possible rather face form change
line story question body sure service present moment along mind car law problem table early whole
field white black given human within often free across money class child among air study land plan
force effect company turned common value result reason course area local office report letter
interest sense matter rate heard street south north keep river morning center care boy girl real
half door week book idea art paper seen support answer strong term music hard true example bring
cost cold stage feel past friend fire late market move stand clear above food return red single
model token batch memory queue length stream kernel engine weight layer cache prompt decode cluster
budget vector matrix sample gradient network signal packet server client request latency bound
measure window pattern garden window mountain summer winter spring autumn yellow green purple silver
bread butter coffee sugar apple orange lemon cherry tiger eagle rabbit horse dolphin sparrow forest
island harbor bridge castle village meadow valley desert ocean canyon glacier thunder lightning
engineer doctor teacher painter writer sailor farmer pilot singer dancer lawyer builder baker
quick brown lazy bright gentle quiet narrow hollow ancient modern distant humble noble clever
"""
"""Separated by white space, in the order of their ids; a second mention adds nothing."""
