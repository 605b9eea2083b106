#!/usr/bin/env python3
"""tiny-cross-encoder.py OUT : random-initialised BertForSequenceClassification(num_labels=1) + locally trained WordPiece tokenizer
(a cross-encoder: enough for the shape and plumbing of /v1/rerank and /score; scores are meaningless but deterministic)."""
import sys, os, torch
from tokenizers import Tokenizer, models, pre_tokenizers, normalizers, processors, trainers, decoders
from transformers import PreTrainedTokenizerFast, BertConfig, BertForSequenceClassification
out = sys.argv[1]; torch.manual_seed(3); os.makedirs(out, exist_ok=True)
t = Tokenizer(models.WordPiece(unk_token="[UNK]")); t.normalizer = normalizers.BertNormalizer(lowercase=True); t.pre_tokenizer = pre_tokenizers.BertPreTokenizer(); t.decoder = decoders.WordPiece()
sp = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
corpus = ["the capital of france is paris", "bananas are yellow", "machine learning is a field of study", "a quick brown fox jumps over the lazy dog", "abcdefghijklmnopqrstuvwxyz 0123456789"] * 50
t.train_from_iterator(corpus, trainers.WordPieceTrainer(vocab_size=600, special_tokens=sp)); c, s = t.token_to_id("[CLS]"), t.token_to_id("[SEP]")
t.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", c), ("[SEP]", s)])
f = PreTrainedTokenizerFast(tokenizer_object=t, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]", model_max_length=512, model_input_names=["input_ids", "token_type_ids", "attention_mask"]); f.save_pretrained(out)
cfg = BertConfig(vocab_size=len(f), hidden_size=128, num_hidden_layers=2, num_attention_heads=2, intermediate_size=256, max_position_embeddings=512, num_labels=1, pad_token_id=f.pad_token_id); cfg.architectures = ["BertForSequenceClassification"]
m = BertForSequenceClassification(cfg).float().eval(); m.save_pretrained(out); print("params", sum(p.numel() for p in m.parameters()), os.listdir(out))
