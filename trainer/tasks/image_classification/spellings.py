"""Other tools' names for what a study of images may say."""

from trainer.tasks.base import Spellings

SPELLINGS = Spellings(
    hyperparameters={
        "label_smoothing": "label_smoothing_factor smoothing",
        "augmentation": "augment data_augmentation aug",
        "image_size": "img_size input_size im_size imgsz resolution",
    },
    metrics={
        "accuracy": "acc val_acc val_accuracy eval_accuracy valid_accuracy validation_accuracy test_accuracy mean_accuracy top1 "
        "top1_accuracy",
        "loss": "val_loss eval_loss valid_loss validation_loss cross_entropy",
        "f1": "f1_score val_f1 eval_f1 f1_macro macro_f1",
        "precision": "val_precision eval_precision precision_macro",
        "recall": "val_recall eval_recall recall_macro",
    },
    data={"path": "image_folder"},
    words={"augmentation": {"none": "", "flip": "horizontal_flip", "crop": "random_crop", "trivial_augment": "TrivialAugmentWide"}},
    dropped="num_classes",
)
