"""The page ``ser demo`` (Gradio, the extra ``demo``).

`answers` asks the model, `parts` and `figures` draw what it answers, `app` is the page
around it. Nothing is computed here: the numbers are those of `SpeechEmotion`.
"""
