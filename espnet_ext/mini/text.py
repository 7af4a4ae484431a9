"""What the speakers of the built-in corpora say, and the licence note of the trees.

None of the sentences tells its emotion, and every emotion draws from the same lists:
a model has to listen to the voice. Six to ten syllables make one to two and a half
seconds of speech.
"""

# Said in the scripted dialogs and in the podcasts.
STATEMENTS = (
    "The letter came this morning.",
    "I left the keys on the kitchen table.",
    "They are painting the house next door.",
    "The train leaves at ten past four.",
    "She called while you were out.",
    "We moved here about a year ago.",
    "The meeting is on the second floor.",
    "He put the boxes in the garage.",
    "There is some soup in the fridge.",
    "The shop on the corner closes at six.",
    "I walked home along the river.",
    "The car is parked behind the school.",
    "My brother works for the city.",
    "They said it would rain all week.",
    "The window in the hall was open.",
    "I saw your sister at the market.",
    "The bus was late again today.",
    "We had dinner with the neighbours.",
    "The doctor wants to see us on Monday.",
    "He has been in that room for an hour.",
    "The papers are in the top drawer.",
    "I talked to the landlord yesterday.",
    "They sold the piano last summer.",
    "The phone rang twice and stopped.",
    "Nobody was at the front desk.",
    "We are going to need another chair.",
    "The flight was moved to Thursday.",
    "She wrote her name on the list.",
    "There were twenty people in the line.",
    "The dog is asleep under the stairs.",
    "He took the early shift this month.",
    "I read about it in the paper.",
    "The lights in the yard are still on.",
    "You have a package at the office.",
    "They want to talk about the budget.",
    "The game starts in half an hour.",
)

# Said in the improvised dialogs.
REPLIES = (
    "Did you talk to him about it?",
    "What did they tell you at the desk?",
    "I think we should go now.",
    "You said you would be here at eight.",
    "So what are you going to do?",
    "I was waiting for you outside.",
    "Can you say that one more time?",
    "That is what she told me.",
    "Well, I did not know that.",
    "You never told me about the job.",
    "How long have you been standing there?",
    "I have the form right here.",
    "Do you remember the old house?",
    "Tell me what happened after that.",
    "I guess we can wait a little.",
    "Who else is coming tonight?",
    "It is the same as last time.",
    "Why are we still talking about this?",
    "I will be back in a minute.",
    "Look at what he gave me.",
    "Is there anything else you need?",
    "We can ask them in the morning.",
    "I have heard that one before.",
    "Are you going to answer me?",
    "Let me get my coat first.",
    "You can put it over there.",
    "He is not coming back today.",
    "Maybe we should sit down.",
)

# Goes into every generated tree.
LICENSE = """\
The speech was generated with espeak-ng (https://github.com/espeak-ng/espeak-ng), a
synthesizer under GPL-3.0 that only the generator calls; no part of its code or data
is in this folder. Sentences, labels and recordings may be used under Apache-2.0.
"""
