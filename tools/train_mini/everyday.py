"""Word lists of everyday words, which technical texts lack and whose spelling misleads.

The lists were written for this purpose, by theme.
"""

WORDS = """
mother father sister brother son daughter uncle aunt cousin grandfather grandmother parents child
children baby boy girl man woman men women wife husband friend neighbor guest stranger people person
family king queen prince princess lady gentleman lord master servant hero thief soldier sailor
captain officer police doctor nurse teacher student pupil lawyer judge farmer baker butcher cook
waiter driver pilot painter writer poet singer actor dancer musician engineer carpenter plumber
tailor barber priest president minister mayor manager secretary clerk worker hunter fisherman guard
head face eye eyes ear ears nose mouth lips tongue tooth teeth hair neck shoulder arm elbow wrist
hand finger thumb chest heart stomach back waist leg knee foot feet ankle toe skin bone blood brain
muscle voice breath tear tears sweat health illness fever cough cold pain wound medicine hospital
bread butter cheese milk cream egg eggs meat beef pork chicken fish soup salad rice potato potatoes
tomato onion carrot bean beans pea corn apple orange banana lemon peach pear plum grape cherry berry
strawberry sugar salt pepper honey jam cake pie cookie chocolate candy biscuit breakfast lunch
dinner supper meal tea coffee juice water wine beer bottle glass cup plate bowl dish spoon fork
knife kettle pot pan oven stove fridge kitchen table chair bench sofa couch bed pillow blanket sheet
curtain carpet lamp candle mirror clock watch shelf drawer cupboard basket box bag suitcase purse
wallet pocket key keys lock door window wall floor ceiling roof chimney stairs room bedroom bathroom
garage cellar attic garden yard fence gate house home flat building tower castle palace church
temple school college library museum theater cinema hotel restaurant shop store market bank office
factory station airport harbor port bridge road street avenue path lane corner square park village
town city country state nation border island continent world earth ground soil sand stone rock mud
dust hill mountain valley cliff cave forest wood woods jungle desert field meadow farm river stream
lake pond sea ocean beach shore coast wave tide sky sun moon star stars cloud clouds rain snow ice
wind storm thunder lightning fog mist frost flood fire flame smoke ash heat weather season spring
summer autumn winter morning noon afternoon evening night midnight today tomorrow yesterday tonight
day days week weeks month months year years century hour minute moment monday tuesday wednesday
thursday friday saturday sunday january february march april may june july august september october
november december birthday holiday christmas wedding party vacation journey trip
dog cat horse cow bull calf pig sheep lamb goat donkey rabbit mouse mice rat squirrel fox wolf
wolves bear lion tiger elephant monkey deer camel bird birds duck goose geese hen rooster turkey
eagle owl crow pigeon swan snake frog turtle lizard whale shark bee butterfly fly spider ant worm
tree trees leaf leaves branch root seed flower flowers rose lily grass bush hay wheat
shirt coat jacket dress skirt trousers pants sweater hat cap scarf glove gloves sock socks shoe
shoes boot boots belt button ring necklace jewel gold silver iron copper steel wool cotton silk
leather cloth rope thread needle hammer nail saw axe spade shovel ladder bucket broom brush comb
soap towel sponge toy doll ball kite drum bell whistle piano guitar violin flute trumpet song music
dance game team match race prize ticket money coin dollar pound penny price bill cheque debt gift
present letter envelope stamp card paper pencil pen ink book page story tale poem newspaper magazine
photograph picture painting map flag sign signal bus car truck wagon cart bicycle train engine wheel
boat ship sail anchor plane aircraft wing umbrella stick stone sword shield gun bullet war peace
army battle enemy victory prison prisoner crime murder accident danger rescue
good bad big small large little great huge tiny tall short long wide narrow deep shallow high low
thick thin fat heavy light strong weak hard soft rough smooth sharp blunt hot warm cool cold wet dry
clean dirty new old young ancient modern fresh rotten ripe sweet sour bitter salty delicious hungry
thirsty full empty rich poor cheap expensive quick fast slow early late loud quiet silent noisy
bright dark pale red blue green yellow brown black white gray pink purple golden beautiful pretty
handsome ugly lovely charming nice pleasant terrible awful wonderful famous popular common strange
curious funny serious happy glad cheerful merry sad sorry lonely angry furious mad afraid scared
frightened nervous anxious worried calm brave bold shy proud humble jealous selfish generous kind
gentle cruel polite rude honest loyal clever wise smart stupid foolish silly lazy busy tired sleepy
awake asleep alive dead sick ill healthy safe dangerous careful careless certain sure ready able
free lost broken torn open closed shut equal exact perfect straight crooked round square flat steep
usual rare secret private public foreign native royal holy blind deaf dumb naked bare lame
go goes went gone come came comes run ran walk walked jump jumped climb climbed crawl swim swam fly
flew flown ride rode ridden drive drove driven sit sat stand stood lie lay lain fall fell fallen
rise rose risen sleep slept dream dreamed wake woke get got give gave given take took taken bring
brought carry carried hold held catch caught throw threw thrown drop dropped push pushed pull pulled
lift lifted raise raised put set lay laid keep kept leave left lose lost find found look looked see
saw seen watch watched stare stared hear heard listen listened smell taste touch touched feel felt
speak spoke spoken say said says tell told talk talked ask asked answer answered whisper shout
shouted cry cried laugh laughed smile smiled sing sang sung dance danced play played work worked
rest rested eat ate eaten drink drank drunk bite bit swallow chew cook cooked bake baked boil fry
pour poured mix cut wash washed wipe sweep swept clean cleaned polish build built make made break
broke tear tore mend mended repair repaired sew fix fixed paint painted draw drew drawn write wrote
written read count counted learn learned learnt teach taught study studied know knew known think
thought believe believed understand understood remember remembered forget forgot forgotten guess
guessed wonder wondered hope hoped wish wished want wanted need needed love loved hate hated like
liked enjoy enjoyed fear feared promise promised agree agreed refuse refused allow allowed forbid
invite invited visit visited meet met greet thank thanked welcome welcomed help helped save saved
protect hide hid hidden seek sought steal stole stolen rob robbed fight fought hit struck beat kick
kicked kill killed die died bury buried hurt burn burned shoot shot attack attacked escape escaped
follow followed chase chased lead led guide arrive arrived reach reached return returned enter
entered stay stayed wait waited begin began begun start started finish finished stop stopped
continue continued become became grow grew grown change changed turn turned move moved shake shook
shaken shine shone blow blew blown freeze froze frozen melt melted float floated sink sank dig dug
plant planted pick picked gather gathered buy bought sell sold pay paid cost spend spent borrow
borrowed lend lent owe owed earn earned win won choose chose chosen decide decided try tried
fail failed succeed solve solved prove proved explain explained describe described show showed shown
point pointed nod nodded knock knocked ring rang rung bark barked roar roared hang hung wear wore
worn dress dressed button fold folded tie tied knot press pressed squeeze squeezed spread stretch
stretched bend bent lean leaned kneel knelt bow bowed hurry hurried march marched wander wandered
travel traveled land landed cross crossed pass passed marry married belong belonged seem seemed
appear appeared disappear disappeared happen happened surprise surprised expect expected believe
breathe breathed cough sneeze sigh sighed yawn blush weep wept suffer suffered recover recovered
very quite rather almost nearly hardly enough too also again always never often sometimes usually
soon already still yet just once twice here there everywhere nowhere somewhere anywhere above below
over under behind beside between among through across along around against toward towards away
together apart alone inside outside upstairs downstairs ahead perhaps maybe indeed instead
carefully slowly quickly quietly loudly softly gently suddenly finally certainly really only even
everyone everybody someone somebody anyone nobody nothing something anything everything another
other others both each either neither half whole several few many much more most less least own same
such whose whom whoever although though because since until unless whether while without within
during despite except beyond upon off onto into
thing things way idea thought mind truth lie secret mistake fault excuse reason question answer
problem trouble matter advice opinion choice chance luck fortune hope joy pleasure sorrow anger
courage pride shame pity mercy patience kindness beauty wisdom knowledge silence noise sound music
smell taste sight view shape size color weight height length depth distance speed strength power
force energy effort practice habit custom law rule duty right freedom youth age childhood death
birth life soul spirit ghost god heaven hell devil angel dream sleep rest work job trade business
company money wealth poverty science art history language word sentence grammar spelling lesson
exercise test exam degree century neighborhood furniture luggage passenger passport machine
telephone radio television camera computer laboratory calendar temperature vegetable comfortable
interesting different difficult dangerous favorite chocolate restaurant february library
laughter daughter bought brought thought caught taught rough tough enough cough though through bough
plough dough thorough borough knee knife know knight knock wrist wrong write answer sword castle
listen whistle island aisle isle debt doubt climb comb lamb thumb tomb bomb hour honest heir ghost
guess guest guilt guitar busy business biscuit build circuit fruit juice suit cruise bruise said
again against says any many pretty women busy bury heart hearth earth heard search pearl early bear
wear pear tear steak break great head dead bread thread spread ready heavy weather feather leather
meadow breakfast health wealth pleasure treasure measure sugar sure ocean special machine chef
chorus chemist stomach anchor echo school scheme choir queue canoe shoe lose whose move prove
improve love glove above dove shove oven cover discover onion money honey monkey front month mother
other nothing wonder worry won ton none done some come become among tongue young touch trouble
double couple cousin country southern flood blood foot good wood wool stood hood cook hook book took
look door floor poor moor soup group youth wound route court course source four pour mourn journey
journal courage nourish flourish soul shoulder mould though bowl own grown shown know snow low crow
bow row sow cow how now brow crowd crown town gown down allow flower tower power shower
child wild mild find kind mind blind behind climb sign design high sigh night light fight right
might sight bright eight weight neighbor sleigh they grey obey prey vein reign foreign height either
neither seize receive ceiling deceive piece niece field shield believe thief chief friend view
review quiet diet science society variety anxiety lion giant client trial dial iron
"""
"""Common words: the irregular ones among them stand in the last paragraph once more."""
