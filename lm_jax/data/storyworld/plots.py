"""The openings and plots of Storyworld, in a small template language:

    [a|b|c]        one option, the k-th with probability proportional to 1 / (k + 1)
    <place.at>     an entry drawn from the lexicon `place`, in its form `at`
    {place}        the entry drawn before, in its plain form; {hero.He} is capitalised
    $who           a phrase of `PHRASES`

A line break is a space. An entry is referred to by its lexicon, so a story has one hero
and at most one friend, one place and one toy. No letter touches a bracket, and options
differ before either ends: so a text has at most one derivation.
"""

OPENINGS: tuple[tuple[float, str, str], ...] = (
    (0.44, "Once upon a time,", "there was $who. $trait $one_day $outing"),
    (0.17, "One day,", "$who woke up [early|late|with a smile]. $trait $later $outing"),
    (0.10, "There once was", "$who. $trait $one_day $outing"),
    (0.08, "In a small village,", "there was $who. $trait $one_day $outing"),
    (0.06, "Long ago,", "there was $who. $trait $one_day $outing"),
    (0.05, "Every morning,", "$who fed the [birds|hens|fish]. $trait $one_day $outing"),
    (0.04, "Once, in a big city,", "there was $who. $trait $one_day $outing"),
    (0.03, "Far away, across the sea,", "there was $who. $trait $one_day $outing"),
    (0.03, "This is a story about", "$who. $trait $one_day $outing"),
)
"""Probability, first words, and rest of each opening."""

PHRASES: dict[str, str] = {
    "who": """[a little|a kind|a happy|a brave|a clever|a gentle|a funny|a quiet]
        <hero.who>""",
    "trait": """{hero} [
        [loved|liked] to [sing|dance|draw|read|run|swim|climb|paint|jump|cook]
        [every day|all day long|for fun|in the sun].|
        had [long|short|curly|soft] [brown|black|red] hair.|
        lived in [a little|a cozy|an old|a blue] house
        [near the sea|on a quiet street|under a big oak|next to a mill].]""",
    "one_day": """[One day|One morning|One afternoon|One spring day|One fine day|
        Last week],""",
    "later": "[After breakfast|After school|Before lunch|In the afternoon],",
    "outing": """{hero} and {hero.his} friend <friend> [went|walked|ran|came] to the
        <place>. The {place} was [quiet|sunny|pretty|empty|lovely|cool].""",
    "soon": "[Soon|After a while|Suddenly|A little later],",
    "where": "[under a tree|behind a rock|in the grass|near a wall|by the water]",
    "said": "[said|shouted|cried]",
    "comfort": "[Do not cry|Do not worry|Dry your tears|Do not be sad]",
    "thanks": "{hero} [hugged|thanked] {friend} [again and again|with a smile].",
    "night": """That night, {hero} [fell asleep|went to bed|closed {hero.his} eyes]
        [with a smile|with a happy heart|full of joy].""",
    "from_then": "[From that day on|After that day|From then on],",
}

PLOTS: dict[str, str] = {
    "a lost toy": """
        {hero} had <colour.a> <toy>. $soon the {toy} was [gone|lost].
        "$comfort, {hero}," said {friend}.
        They [looked|walked|ran] around the {place} and found the {toy} $where.
        [$from_then {hero} took [good|better|great] care of the
        {toy}.|$night|$thanks]""",
    "a broken toy": """
        {hero} had <colour.a> <toy>. $soon the {toy} fell on
        [a rock|the ground|a stone] and broke. "$comfort, {hero}," said {friend}.
        They fixed the {toy} with [glue|string|tape|wood]
        and stayed near the {place} until [dark|dinner|sunset].
        [$from_then {hero} played with [more care|gentle hands].|$night|$thanks]""",
    "a stuck kite": """
        {hero} had <colour.a> kite. $soon the wind blew the {colour} kite into
        [a tall tree|an old oak|a thin pine].
        {hero} [pulled the string|jumped up high|threw a stick], but it was stuck.
        {friend} looked around the {place}, found [a ladder|a rope|a net|a pole],
        and [freed|saved|caught] the kite.
        [$from_then {hero} and {friend} flew the kite together.|$night|$thanks]""",
    "a hungry animal": """
        $soon {hero} saw <size.a> <animal> $where. The {animal} was
        [very hungry|weak and hungry|looking for food].
        {hero} and {friend} gave it <food.some>. The {animal}
        [ate and ate|jumped for joy|made a happy sound]
        and followed {hero} around the {place} [all day|until sunset|for hours].
        [$from_then {hero} [fed|helped] the {animal} every
        [day|week].|$night|$thanks]""",
    "a storm": """
        $soon the sky turned [dark|gray|black], and {hero} was [scared|afraid|cold].
        "[Quick|Come|Run], {hero}, to the [barn|cave|shed|tent]!" $said {friend}.
        They [held hands|sang a song|told jokes] until the storm was over.
        Then {hero} saw [a big|a bright|a pretty] rainbow over the {place}.
        [$from_then {hero} was not afraid of storms.|$night|$thanks]""",
    "one toy for two": """
        {hero} found <colour.a> <toy>. "[It is mine|I want it|Give it to me]!"
        $said {hero}. "No, [it is mine|I saw it first]!" $said {friend}.
        Then {hero.his} <grown_up> came to the {place}
        and told them to [take turns|share|be kind].
        {hero} had the {toy} first, and then {friend} had a turn.
        [$from_then {hero} [always|gladly] shared the {toy}.|$night|$thanks]""",
    "the dark": """
        At night, they slept in <colour.a> tent. $soon {hero} heard a
        [strange|loud|scary] [noise|sound] in the dark.
        "[Is it a monster|Who is there|What is that]?" [asked|whispered] {hero}.
        {friend} turned on a [light|lamp] in the {colour} tent. It was only <size.a>
        <animal> from the {place}!
        [$from_then {hero} was not afraid of the dark.|
        {hero} [laughed|smiled] and [fell asleep|closed {hero.his} eyes].]""",
    "a baby animal": """
        $soon {hero} found a baby <animal> $where. The {animal} had lost its mother.
        They [looked|walked|ran] around the {place} [for hours|step by step].
        "[Look|Stop|Come], {hero}, [I see her|there she is]!" $said {friend}.
        The {animal} [ran|jumped|went] to its mother [at once|with joy].
        [$from_then {hero} visited the {animal} every [day|week].|$night|$thanks]""",
    "a stolen lunch": """
        {hero} had <food.some> in a [bag|basket|box]. $soon <size.a> <animal> took the
        {food} and ran [away|off] with it. "$comfort, {hero}," said {friend}.
        {friend} had [bread|cake|soup|rice] for two,
        and they ate it near the {place} [with joy|in the sun|side by side].
        [$from_then {hero} and {friend} shared every [lunch|meal].|$night|$thanks]""",
    "a bike": """
        {hero} had <colour.a> bike and tried to ride it around the {place},
        but fell [into the mud|on the grass|into a bush].
        "[Try again|Do not give up|I will hold you], {hero}," said {friend}.
        {hero} tried [again and again|three more times|all day].
        [At last|Before dark], {hero} rode the {colour} bike [home|very well|up a hill].
        [$from_then {hero} rode the bike every [day|week].|$night|$thanks]""",
    "a found toy": """
        {hero} found <colour.a> <toy> $where. $soon a [sad|crying|lonely] <child> came
        to the {place}. "I lost my {toy}," said the {child}. "[Be kind|Give it back],
        {hero}," said {friend}. {hero} gave the {toy} back, and the {child}
        [smiled|laughed|danced].
        [{hero} learned that [it is good to be kind|kind acts bring friends].|
        $night|$thanks]""",
    "a slow seed": """
        {hero} planted a [tiny|small|brown] seed near the {place} and gave it water
        every [day|morning|night], but nothing grew.
        "[Be patient|Wait a little|Give it time], {hero}," said {friend}.
        {hero} waited for [two|three|four] [days|weeks]. [At last|Then], <colour.a>
        flower [grew|opened]. They [danced around|smelled|watered] the {colour} flower.
        [{hero} learned to [wait|be patient].|$night|$thanks]""",
    "a locked box": """
        {hero} found <colour.a> box $where. {hero} [pulled|pushed|kicked] the {colour}
        box, but it did not open. {friend} looked around the {place}
        and found [a rusty|a gold|a silver|a strange] key. "[Try this|Look|Watch me],
        {hero}," said {friend}. In the box was <toy.a>!
        [$from_then {hero} and {friend} shared the {toy}.|$night|$thanks]""",
    "a big dog": """
        A big [brown|black|white|spotted] dog [barked|jumped] at {hero}.
        {hero} was [scared|afraid|cold with fear] and hid $where.
        "It [only|just] wants to play, {hero}," said {friend}.
        {hero} threw <colour.a> ball across the {place}. The dog
        [found|caught] the {colour} ball and [wagged its tail|jumped for joy|sat down].
        [$from_then {hero} was not afraid of dogs.|$night|$thanks]""",
    "a race": """
        {hero} and {friend} ran a race around the {place}. The prize was <colour.a>
        <toy>. {hero} was [first|fast|in front], but {friend} fell over
        [a root|a stone|a log]. {hero} [stopped|turned back] and
        [helped {friend.him} up|held {friend.his} hand|waited for {friend.him}].
        They [walked|ran] on [together|hand in hand|side by side] and both won the
        {toy}.
        [{hero} learned that friends are [better|more fun] than
        prizes.|$night|$thanks]""",
    "the way home": """
        They [got lost|lost the way] near the {place}. It was [late|dark|cold], and
        {hero} [began to cry|was afraid]. $soon they saw <size.a> <animal> with
        <colour.a> hat. "[Follow me|I can help|Come with me], {hero}," said the
        {animal}.
        The {animal} led them [over a bridge|down a path|through a gate] and home.
        [{hero} [hugged|thanked] the {animal} [again and again|with a smile].|$night|
        {hero} never forgot the {colour} hat.]""",
}
